"""Damaged, foreign and lying recordings: an error of our own or what can be saved, never a traceback; recovery throws nothing away."""

import contextlib
import json
import os
import shutil

import pytest

import atf


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    from live import Bench

    bench = Bench(tmp_path_factory.mktemp("recorded"))
    ran = bench.python("import atf\ndef work(n): atf.event('at', n=n)\nfor n in range(300): work(n)\n", options=["-q", "--level", "args"])
    assert ran.status == 0
    return ran.path


def truncate(path):
    os.truncate(path, path.stat().st_size * 2 // 3 + 5)


def zero_fill(path):
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.seek(size // 2)
        file.write(bytes(size - size // 2))


def flip(path):
    data = bytearray(path.read_bytes())
    for at in range(97, len(data), 97):
        data[at] ^= 1 << at % 8
    path.write_bytes(data)


def foreign(path):
    path.write_bytes(b"\x7fELF" + os.urandom(5000))


def empty(path):
    path.write_bytes(b"")


def future(path):
    data = bytearray(path.read_bytes())
    if path.suffix == ".json":
        path.write_text(json.dumps({**json.loads(data), "format_version": "9.0"}))
        return
    data[5] = 77
    path.write_bytes(data)


DAMAGE = [truncate, zero_fill, flip, foreign, empty, future]
VIEWS = (["info"], ["tree"], ["events", "--limit", "5"])


@pytest.mark.parametrize("name", ["thread_0/index.atf", "thread_0/detail.atf", "manifest.json"])
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda function: function.__name__)
def test_damaged_files_give_an_error_of_our_own_or_what_can_be_saved(bench, recorded, name, damage):
    session = bench.path / "session_20260101_000000"
    shutil.copytree(recorded, session)
    (process,) = session.glob("pid_*")
    damage(process / name)
    before = {path: path.read_bytes() for path in session.rglob("*") if path.is_file()}
    views = VIEWS if name.endswith("index.atf") else VIEWS[:1]
    for words in views:
        ran = bench.atf(*words, str(session))
        assert ran.status in (0, 1) and "Traceback" not in ran.err, ran.err
        assert ran.status == 0 or (ran.err.startswith("atf: ") and ran.err.count("\n") == 1), ran.err
    assert {path: path.read_bytes() for path in session.rglob("*") if path.is_file()} == before, "reading changed a file"
    ran = bench.atf("recover", str(session))
    assert ran.status in (0, 1) and "Traceback" not in ran.err, ran.err
    kept = {path.read_bytes() for path in session.rglob("*") if path.is_file() and path.suffix != ".json"}
    assert {data for path, data in before.items() if path.suffix != ".json"} <= kept, "recovery threw a damaged file away"
    with contextlib.suppress(atf.FormatError), atf.open(session) as trace:
        assert damage in (foreign, empty, future) or len(trace.events()) > 0


def test_a_manifest_that_lies(bench, recorded):
    session = bench.path / "session_20260101_000000"
    shutil.copytree(recorded, session)
    (process,) = session.glob("pid_*")
    manifest = json.loads((process / "manifest.json").read_text())
    with atf.open(recorded) as trace:
        events = len(trace.events())
    lies = [
        {"threads": [{"id": 0, "events": 10**9, "lost": -5, "name": 7, "tid": "x"}, {"id": 99}]},
        {"threads": "none", "symbols": {"a": 1}, "modules": [None, 3], "lost": [1]},
        {"symbols": [{"function_id": "0xzz", "name": None}] * 3, "time_start_ns": -1, "time_end_ns": "late"},
        {"status": "complete", "clock": None, "pid": "me", "argv": 5, "exit": "yes"},
    ]
    for lie in lies:
        (process / "manifest.json").write_text(json.dumps({**manifest, **lie}))
        ran = bench.atf("info", "--json", str(session))
        assert ran.status == 0 and json.loads(ran.out)["events"] == events, ran.err
        ran = bench.atf("recover", str(session))
        assert ran.status == 0 and "Traceback" not in ran.err, (lie, ran.err)


def test_recover_of_no_directory(bench):
    ran = bench.atf("recover", "nowhere")
    assert ran.status == 2 and ran.err == "atf: nowhere: no such directory\n"
