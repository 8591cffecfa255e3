"""The viewing commands on a trace made byte by byte: what they show, and what they say in JSON."""

import json
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from atf.cli import main

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, EXCEPTION, GAP, INSTANT, RETURN, detail, event

pack = msgspec.msgpack.encode
MAIN, SOLVE, STEP, USER = 1 << 32, 1 << 32 | 1, 2 << 32, 7
NAMES = {MAIN: ("main", "/src/app.py", 3), SOLVE: ("Model.solve", "/src/app.py", 9), STEP: ("step", "/src/lib.py", 1), USER: ("load", "", 0)}
MS = 10**6
START = 10**15


def main_thread():
    rows = [(0, MAIN, CALL, 1, 0), (1, SOLVE, CALL, 2, tf.NONE)]
    for n in range(5):
        rows += [(2 + 2 * n, STEP, CALL, 3, tf.NONE), (3 + 2 * n, STEP, RETURN, 3, tf.NONE)]
    rows += [(20, STEP, CALL, 3, tf.NONE), (22, STEP, EXCEPTION, 3, 1), (30, SOLVE, RETURN, 2, tf.NONE)]
    rows += [(31, USER, CALL, 2, 2), (32, USER, INSTANT, 2, tf.NONE), (33, USER, RETURN, 2, tf.NONE), (40, MAIN, RETURN, 1, 3)]
    events = [event(START + ms * MS, *rest) for ms, *rest in rows]
    details = [
        detail(0, 16, pack({"args": {"n": 3, "who": {"~": "app.Model"}, "values": [1.5, {"…": 9}]}})),
        detail(13, 18, pack({"type": "builtins.ValueError", "message": "no\x1b[2J\nway"})),
        detail(15, 19, pack({"name": "load", "attributes": {"file": "a.txt"}})),
        detail(18, 17, pack({"value": [1, float("nan")]})),
    ]
    return events, details


def worker():
    return [event(START + 5 * MS, STEP, CALL, 1, tid=201), event(START + 6 * MS, 4000, GAP, 1, tid=201)], ()


@pytest.fixture
def session(tmp_path):
    place = tmp_path / "session_20260101_120000"
    said = {0: {"tid": 200, "name": "MainThread"}, 1: {"tid": 201, "name": "worker-1", "lost": 4000}}
    more = {"pid": 50, "argv": ["app.py", "a b"], "exit": 3, "python": "3.11.7", "parent_pid": 1, "lost": {"exhausted": 4000}}
    content = tf.manifest(said, NAMES, {1: "app", 2: "lib"}, **more)
    tf.write_process(place, 50, {0: (200, *main_thread()), 1: (201, *worker())}, content)
    return str(tmp_path)


@pytest.fixture
def ask(session, capsys):
    def run(*argv):
        assert main([argv[0], session, *argv[1:]]) == 0
        out, err = capsys.readouterr()
        assert not err
        return json.loads(out) if "--json" in argv else out

    return run


def words(line):
    return re.split(r"\s{2,}", line.strip())


def test_info(ask):
    shown = ask("info")
    assert "40.0 ms" in shown and "4,000 (exhausted)" in shown
    assert words(shown.splitlines()[8]) == ["50", "1", "3.11.7", "complete", "3", "app.py 'a b'"]
    assert words(shown.splitlines()[-1]) == ["50", "1", "201", "worker-1", "2", "4,000"]
    found = ask("info", "--json")
    assert found["events"] == 21 and found["lost"] == {"exhausted": 4000}
    assert [thread["name"] for thread in found["threads"]] == ["MainThread", "worker-1"]
    assert found["duration_ns"] == 40 * MS


def test_top(ask):
    rows = ask("top", "--json")["rows"]
    assert {row["name"]: row["count"] for row in rows} == {"main": 1, "Model.solve": 1, "step": 7, "load": 1}
    (step,) = [row for row in rows if row["name"] == "step"]
    assert step["exceptions"] == 1 and step["module"] == "lib"
    shown = ask("top", "--by", "count", "--limit", "1").splitlines()
    assert words(shown[0])[0] == "self" and len(shown) == 2
    assert words(shown[1])[-2:] == ["lib.step", "/src/lib.py:1"]
    assert len(ask("top", "--group", "module", "--json")["rows"]) == 3


def test_tree(ask):
    assert ask("tree", "--thread", "MainThread").splitlines() == [
        "MainThread (thread 200 of process 50)",
        "app.main(n=3, who=<app.Model>, values=[1.5, …9]) → [1, nan]  40.0 ms",
        "├─ app.Model.solve  29.0 ms",
        "│  ├─ lib.step ×5  5.00 ms",
        "│  └─ lib.step  2.00 ms  [raised ValueError: no\\x1b[2J\\nway]",
        "└─ load(file='a.txt')  2.00 ms",
    ]
    assert ask("tree", "--thread", "201").splitlines()[1] == "lib.step  35.0 ms  [lost]"
    assert len(ask("tree", "--no-fold", "--thread", "200").splitlines()) == 10
    assert ask("tree", "--limit", "2").splitlines()[-1].startswith("… there is more")
    assert "… 6 more calls below" in ask("tree", "--max-depth", "2")
    nodes = ask("tree", "--json", "--thread", "200")["nodes"]
    assert [(node["parent_id"], node["count"]) for node in nodes] == [(None, 1), (0, 1), (1, 5), (1, 1), (0, 1)]
    assert nodes[0]["span"]["result"] == [1, "nan"]


def test_spans(ask):
    slowest = ask("spans", "--json", "--thread", "200", "--order-by", "duration", "--limit", "2")["spans"]
    assert [span["function"]["name"] for span in slowest] == ["main", "Model.solve"]
    (raised,) = ask("spans", "--json", "--status", "exception")["spans"]
    assert raised["exception"] == {"type": "builtins.ValueError", "message": "no\x1b[2J\nway"}
    assert raised["parent_id"] == f"200:{START + MS}:1"
    assert len(ask("spans", "--json", "--function", "step", "--thread", "200", "--min-duration", "1.5ms")["spans"]) == 1
    assert len(ask("spans", "--json", "--start", "15ms", "--end", "35ms", "--thread", "200")["spans"]) == 2
    assert len(ask("spans", "--json", "--start", str(START + 15 * MS), "--end", "35ms", "--thread", "200")["spans"]) == 2
    assert len(ask("spans", "--json", "--max-depth", "1")["spans"]) == 2
    shown = ask("spans", "--status", "exception").splitlines()
    assert words(shown[1]) == ["20.0 ms", "2.00 ms", "2.00 ms", "200", "3", "exception", "lib.step", "ValueError: no\\x1b[2J\\nway"]


def test_events(ask):
    shown = ask("events").splitlines()
    assert len(shown) == 21
    assert shown[0].split()[:4] == ["0.000000000", "200", "call", "app.main"]
    (gap,) = [line for line in shown if " gap " in line]
    assert gap.endswith("4,000 events lost (exhausted)")
    assert [e["kind"] for e in ask("events", "--json", "--thread", "201")["events"]] == ["call", "gap"]
    (gap,) = ask("events", "--json", "--kind", "gap")["events"]
    assert (gap["lost"], gap["reason"], gap["function"]) == (4000, "exhausted", None)
    assert len(ask("events", "--json", "--kind", "exception", "--kind", "instant")["events"]) == 2
    assert len(ask("events", "--json", "--depth", "1", "--limit", "2", "--module", "app")["events"]) == 2


def test_nothing_found_is_no_error(ask):
    assert ask("events", "--function", "nothing") == ""
    assert ask("spans", "--json", "--function", "nothing")["spans"] == []
    assert ask("tree", "--function", "nothing") == ""


def test_the_newest_below_the_default_directory(session, tmp_path, monkeypatch, capsys):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "atf-traces").symlink_to(session)
    monkeypatch.chdir(tmp_path / "home")
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"].endswith("session_20260101_120000")


@pytest.mark.parametrize("command", ["info", "top", "tree", "spans", "events"])
def test_on_a_terminal(command, session):
    """Through a real terminal: rich draws it, and nothing of the recorded program reaches the terminal as a control sequence."""
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-m', 'atf', *sys.argv[1:]]) >> 8)"
    done = subprocess.run([sys.executable, "-c", code, command, session], capture_output=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done
    assert b"app" in done.stdout
    assert b"\x1b[2J" not in done.stdout


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    events = [event(START + n, STEP, INSTANT, 1) for n in range(60_000)]
    tf.write_process(tmp_path / "session_20260101_120000", 50, {0: (200, events, ())}, tf.manifest({0: {}}, NAMES, {}, pid=50))
    for options in ([], ["--json"]):
        command = subprocess.Popen(
            [sys.executable, "-m", "atf", "events", str(tmp_path), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert command.stdout.readline()
        command.stdout.close()
        assert command.stderr.read() == b""
        command.stderr.close()
        assert command.wait() == 141
