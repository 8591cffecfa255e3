"""What holds of a recording in parts: each of them is a complete trace, and together they have every record once."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import msgspec
from accounts import check_manifests

from atf import recovery
from atf._core import layout
from atf._core.reader import DetailFile, IndexFile
from atf.trace import open_trace

GAP, CALL = 8, 1


def head_of(events):
    """(records in earlier parts, calls told again) of a thread's file; (0, 0): it begins with its thread."""
    if not len(events) or (int(events["event_kind"][0]), int(events["call_depth"][0])) != (GAP, layout.EARLIER):
        return 0, 0
    carried, first = 0, events["timestamp_ns"][0]
    while carried + 1 < len(events) and events["event_kind"][carried + 1] == CALL and events["timestamp_ns"][carried + 1] == first:
        carried += 1
    return int(events["function_id"][0]) + carried, carried


def check_thread(place):
    """One thread in one part: (records before, events of its own, details by position)."""
    index = IndexFile(place / "index.atf")
    assert index.report.status == "finalized", place
    events = index.events
    details = DetailFile(place / "detail.atf") if (place / "detail.atf").exists() else None
    assert details is None or (details.report.status == "finalized" and len(details.broken_links(events)) == 0), place
    before, carried = head_of(events)
    skip = carried + 1 if before or carried else 0
    assert (events["timestamp_ns"][1:] >= events["timestamp_ns"][:-1]).all(), place
    said = {}
    for position, link in enumerate(events["detail_seq"].tolist()):
        if link != layout.NO_DETAIL:
            said[position - skip] = msgspec.msgpack.decode(bytes(details.of_event(position, link).payload))
    return before, events[skip:], said


def check_part(part):
    """A part by itself. Returns its manifests."""
    found = {}
    assert check_manifests(part)
    for place in part.glob("pid_*"):
        manifest = found[place.name] = json.loads((place / "manifest.json").read_text())
        assert manifest["status"] in ("complete", "recovered") and manifest["part"]["number"] == int(part.name[5:])
        named = {int(one["function_id"], 16) for one in manifest["symbols"]}
        for thread in manifest["threads"]:
            index = IndexFile(place / f"thread_{thread['id']}" / "index.atf")
            assert len(index.events) == thread["events"]
            kinds = index.events["event_kind"]
            assert set(index.events["function_id"][(kinds != GAP) & (kinds != 7)].tolist()) <= named, place
    with open_trace(part) as trace:
        assert not trace.check(), trace.check()
    return found


def threads_over_parts(session):
    """Every thread's own records over all parts, in order: {(process, number): [(event, attributes or None)]}, after checking the seams.
    What is lost stands as its GAP."""
    seen, counts = {}, {}
    for part in sorted(session.glob("part_*")):
        for place in sorted(part.glob("pid_*/thread_*")):
            key = place.parent.name, int(place.name[7:])
            before, events, said = check_thread(place)
            assert before == counts.get(key, 0), f"{place}: {before} records before it, there are {counts.get(key, 0)}"
            gaps = events["event_kind"] == GAP
            counts[key] = before + len(events) - int(gaps.sum()) + int(events["function_id"][gaps].sum())
            seen.setdefault(key, []).extend((event, said.get(at)) for at, event in enumerate(events.tolist()))
    return seen


PROGRAM = """
import threading, atf, time
def work(me):
    for number in range(60000):
        with atf.span("round"):
            if number % 3: atf.event(f"tick {me}")
            else: atf.event(f"tick {me}", number=number, text="x" * (number % 200))
        if number % 500 == 0: time.sleep(0.0005)
with atf.span("whole"):
    all = [threading.Thread(target=work, args=(k,)) for k in (1, 2)]
    for one in all: one.start()
    print("ready", flush=True)
    for one in all: one.join()
print("end", flush=True)
"""


def parts_begin(out):
    """Return as soon as there is a second part."""
    while not any(out.glob("*/part_0002")):
        time.sleep(0.002)


def kill_once(tmp_path, wait_s):
    """A recorder whose parts are short is killed; the program goes on, and nothing is missing after a recovery (policy: block)."""
    (tmp_path / "program.py").write_text(PROGRAM)
    words = ["record", "-q", "--include", "nothing", "--out", str(tmp_path / "out"), "--ring-size", "64K", "--policy", "block", "--max-size", "64K"]
    command = [sys.executable, "-m", "atf", *words, "--", sys.executable, str(tmp_path / "program.py")]
    root = str(pathlib.Path(__file__).parents[1])
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}) as recorder:
        assert recorder.stdout.readline() == b"ready\n"
        parts_begin(tmp_path / "out")
        time.sleep(wait_s)
        recorder.send_signal(signal.SIGKILL)
        assert recorder.stdout.readline() == b"end\n", "the program did not run on undisturbed"
        recorder.wait()
    time.sleep(0.1)
    (session,) = (tmp_path / "out").iterdir()
    recovery.recover(session)
    parts = sorted(session.glob("part_*"))
    assert [int(part.name[5:]) for part in parts] == list(range(1, len(parts) + 1))
    for part in parts:
        check_part(part)
    for (_, number), records in threads_over_parts(session).items():
        assert not [event for event, _ in records if event[3] == GAP], "a record that was committed is missing"
        if number:
            assert [said["attributes"]["number"] for _, said in records if said] == list(range(0, 60000, 3)) and len(records) == 180_000
    listed = json.loads((session / "parts.json").read_text())
    assert [row["number"] for row in listed["parts"]] == list(range(1, len(parts) + 1))
    content = {path: path.read_bytes() for path in session.rglob("*.atf")}
    recovery.recover(session)
    assert content == {path: path.read_bytes() for path in session.rglob("*.atf")}
    return len(parts)
