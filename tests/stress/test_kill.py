"""The process that drains is killed at random moments, and `atf recover` completes what it left.

FORBIDDEN in the recovered files: a record twice or out of order; a record that is missing without a GAP; a link between
event and detail that holds one way only; a detail of another record; under ``block``, a gap of any size; a record that
was in the files before the recovery and is not there after it; and a second recovery that changes anything.
"""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from atf import recovery
from atf._core import layout
from atf._core.reader import DetailFile, IndexFile

ROOT = pathlib.Path(__file__).parents[2]
ENDLESS = """
import itertools, threading, atf

def work(me):
    for number in itertools.count():
        if number % 3:
            atf.event(f"tick {me}")
        else:
            atf.event(f"tick {me}", number=number, text="x" * (number % 200))

def both():
    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in (1, 2)]
    for thread in threads: thread.start()
    print("ready", flush=True)
    for thread in threads: thread.join()
"""
OWN_DRAIN = ENDLESS + "with atf.record(OUT, python=False, policy=POLICY, ring_size='64K'):\n    both()\n"


@pytest.fixture(autouse=True)
def own_runtime_directory(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def events_on_disk(out):
    """How many whole records every index.atf holds, whatever its header says."""
    return {path: max(path.stat().st_size - 64, 0) // 32 for path in pathlib.Path(out).glob("**/thread_*/index.atf")}


def check_thread(place, policy, bare=True):
    """bare: the thread wrote nothing but its numbered records, so each number follows from the position."""
    index = IndexFile(place / "index.atf")
    assert index.report.status == "finalized"
    events = index.events
    detail = DetailFile(place / "detail.atf") if (place / "detail.atf").exists() else None
    assert detail is None or (detail.report.status == "finalized" and len(detail.broken_links(events)) == 0)
    gaps = events["event_kind"] == 8
    if policy == "block":
        assert not gaps.any(), f"{place}: {int(events['function_id'][gaps].sum())} records lost under block"
    linked, number = 0, 0
    for position, (kind, function_id, link) in enumerate(zip(events["event_kind"].tolist(), events["function_id"].tolist(), events["detail_seq"].tolist())):
        if kind == 8:
            number += function_id * bare
            continue
        if link != layout.NO_DETAIL:
            record = detail.of_event(position, link)
            assert record is not None, f"{place}: event {position} has a link that does not lead back"
            if record.type != 19:  # not one of atf.event's
                linked += 1
                continue
            said = msgspec.msgpack.decode(bytes(record.payload))["attributes"]["number"]
            assert said == number if bare else said >= number, f"{place}: at {position} stands record {said}, expected was {number}"
            number = said
            linked += 1
        elif policy == "block":
            assert number % 3, f"{place}: record {number} lost its detail"
        number += bare or link != layout.NO_DETAIL
    assert linked == (0 if detail is None else detail.report.records)
    return number


def check(out, policy, before, bare=True):
    found = recovery.recover(out)
    assert found["processes"], found
    after = events_on_disk(out)
    total = sum(check_thread(path.parent, policy, bare) for path in after)
    for path, events in before.items():
        # A footer that was being written counts as two records.
        assert after[path] - 2 >= events - 2, f"{path}: {events} records before the recovery, {after[path] - 2} after it"
    content = {path: path.read_bytes() for path in after}
    recovery.recover(out)
    assert content == {path: path.read_bytes() for path in after}
    return total


def kill_once(tmp_path, policy, wait_s):
    out = tmp_path / "out"
    program = OWN_DRAIN.replace("OUT", repr(str(out))).replace("POLICY", repr(policy))
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        deadline = time.monotonic() + 20
        while not any(events_on_disk(out).values()) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(wait_s)
        child.send_signal(signal.SIGKILL)
        child.wait()
    before = events_on_disk(out)
    assert check(next(out.iterdir()), policy, before) > 1000


@pytest.mark.parametrize("policy", ["block", "drop-oldest"])
@pytest.mark.parametrize("seed", [1, 2])
def test_process_with_its_own_drain(tmp_path, policy, seed):
    kill_once(tmp_path, policy, random.Random(seed).random() * 0.1)


@pytest.mark.stress
@pytest.mark.parametrize("policy", ["block", "drop-oldest"])
@pytest.mark.parametrize("seed", range(100, 140))
def test_process_with_its_own_drain_often(tmp_path, policy, seed):
    kill_once(tmp_path, policy, random.Random(seed).random() * 0.3)


@pytest.mark.parametrize("seed", [1, 2])
def test_recorder_beside_the_program(tmp_path, seed):
    """The recorder is killed; the program must run on to its end, and what its rings hold is recovered."""
    out, program = tmp_path / "out", tmp_path / "program.py"
    program.write_text(ENDLESS.replace("itertools.count()", "range(200000)") + "both()\nprint('end', flush=True)\n")
    command = [sys.executable, "-m", "atf", "record", "--quiet", "--out", str(out), "--ring-size", "64K", "--", sys.executable, str(program)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as recorder:
        assert recorder.stdout.readline() == b"ready\n"
        time.sleep(random.Random(seed).random() * 0.05)
        recorder.send_signal(signal.SIGKILL)
        assert recorder.stdout.readline() == b"end\n", "the program did not run on undisturbed"
        recorder.wait()
    time.sleep(0.2)
    before = events_on_disk(out)
    check(next(out.iterdir()), "drop-oldest", before, bare=False)
