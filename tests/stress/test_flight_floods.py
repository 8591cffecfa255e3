"""The flight recorder under load: floods, a drain that stands still, deaths and a full disk, and a recorder that runs on and on.

FORBIDDEN: a record that another thread's flood costs; a count that is wrong by one; a record twice; a window that is called complete, has
lost something, and does not say so; memory of the recorder that grows with what it sees.
"""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import msgspec
import pytest

from atf._core import drain, recorder, segment
from atf._core.reader import DetailFile, IndexFile

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.stress


@pytest.fixture(autouse=True)
def own_runtime_directory(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def begin(tmp_path, source, *options):
    (tmp_path / "program.py").write_text(source)
    words = [sys.executable, "-m", "atf", "record", "-q", "--include", "nothing", "--out", str(tmp_path / "out"), *options]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*words, "--", sys.executable, str(tmp_path / "program.py")], cwd=tmp_path, text=True, **pipes)


def manifest(tmp_path):
    (found,) = (tmp_path / "out").glob("session_*/pid_*/manifest.json")
    return json.loads(found.read_text())


def threads(tmp_path):
    """Per thread number: (index, {position: attributes})."""
    found = {}
    for place in sorted((tmp_path / "out").glob("session_*/pid_*/thread_*")):
        index = IndexFile(place / "index.atf")
        assert index.report.status == "finalized"
        said = {}
        if (place / "detail.atf").exists():
            details = DetailFile(place / "detail.atf")
            assert len(details.broken_links(index.events)) == 0
            for seq, link in enumerate(index.events["detail_seq"].tolist()):
                if link != 0xFFFFFFFF:
                    said[seq] = msgspec.msgpack.decode(bytes(details.of_event(seq, link).payload))["attributes"]
        found[int(place.name.split("_")[1])] = index, said
    return found


def counted(index):
    """Written and lost, from the file alone."""
    gaps = index.events["event_kind"] == 8
    return int((~gaps).sum()), int(index.events["function_id"][gaps].sum())


FLOOD = """
import atf, threading, time
def quiet(me):
    for number in range(300):
        atf.event(f"quiet {me}", number=number)
        time.sleep(0.005)
def flood():
    while not over: atf.event("flood")
over = False
all = [threading.Thread(target=quiet, args=(k,), name=f"quiet {k}") for k in range(63)]
one = threading.Thread(target=flood, name="flood")
one.start()
for thread in all: thread.start()
for thread in all: thread.join()
over = True
one.join()
"""


@pytest.mark.parametrize("stop", [False, True])
def test_a_flood_among_64_threads(tmp_path, stop):
    with begin(tmp_path, FLOOD, "--ring-size", "128K", "--burst-size", "16M", "--threads", "80") as recording:
        if stop:
            for _ in range(4):  # shorter than the silence after which the lane is shared
                time.sleep(0.4)
                recording.send_signal(signal.SIGSTOP)
                time.sleep(0.3)
                recording.send_signal(signal.SIGCONT)
        _, err = recording.communicate(timeout=120)
    assert recording.returncode == 0, err
    found = manifest(tmp_path)
    quiet = [one for one in found["threads"] if one["name"].startswith("quiet")]
    assert len(quiet) == 63
    read = threads(tmp_path)
    for one in quiet:
        _, said = read[one["id"]]
        assert one["lost"] == one["details_lost"] == 0 and [a["number"] for a in said.values()] == list(range(300)), one
    for one in found["threads"]:
        assert counted(read[one["id"]][0])[1] == one["lost"]
        dropped = sum(p["dropped"] for p in found.get("overload", {"periods": []})["periods"] if (p["thread"], p["lane"]) == (one["id"], "index"))
        assert dropped == one["lost"] or found["overload"]["unlisted"]
    if stop:
        assert any(p["state"] == "dropping" for p in found["overload"]["periods"])


@pytest.mark.parametrize("seed", range(3))
def test_producers_at_five_times_the_drains_rate(tmp_path, seed):
    """The drain is driven by hand, a fifth as often as it would have to be: the newest records are kept, and every count is exact."""
    options = {"slots": 8, "index_rings": 4, "index_bytes": 65536, "detail_rings": 2, "detail_bytes": 65536, "global_cells": 1024, "names_bytes": 65536}
    made = segment.SegmentSet.create(options=options, policy="drop-oldest")
    made.remove()
    recorder.open_session(made.segments)
    try:
        engine, source = drain.Drain(), drain.Source(made.segments, tmp_path)
        engine.add(source)
        rng, written = random.Random(seed), 0
        room = 4 * 65536 // 32
        for _ in range(40):
            count = 5 * room + rng.randrange(1000)
            for _ in range(count):
                recorder.record(4, 7)
            written += count
            engine.settle()
        recorder.close_session()
        engine.finish(source)
        (thread,) = source.threads()
        events = IndexFile(tmp_path / "thread_0" / "index.atf").events
        gaps = events["event_kind"] == 8
        lost = int(events["function_id"][gaps].sum())
        assert int((~gaps).sum()) + lost == written and thread["lost"] == {"exhausted": lost}
        assert not gaps[-room // 2 :].any() and 0.7 < lost / written < 0.9, "drop-oldest: what is last is there"
        periods = source.overload()
        assert sum(one["dropped"] for one in periods["periods"]) == lost and not periods["unlisted"]
    finally:
        recorder.close_session()
        made.detach()


TOLD = """
import atf, sys, os
number = 0
for line in sys.stdin:
    word, _, count = line.strip().partition(" ")
    if word == "mark": atf.mark("here", number=-1)
    if word == "write":
        for number in range(number, number + int(count)): atf.event("numbered", number=number)
        number += 1
    if word == "die": os.kill(os.getpid(), int(count))
    print("ok", flush=True)
"""


def tell(recording, words, answers=True):
    print(words, file=recording.stdin, flush=True)
    assert not answers or recording.stdout.readline() == "ok\n"


@pytest.mark.parametrize("keep", [("--trigger", "exception=Never", "--pre-roll-sec", "60"), ("--flight", "60s")])
def test_a_drain_that_stands_for_two_seconds(tmp_path, keep):
    with begin(tmp_path, TOLD, "--ring-size", "64K", "--burst-size", "0", *keep) as recording:
        tell(recording, "write 1000")
        time.sleep(0.5)
        for _ in range(3):
            recording.send_signal(signal.SIGSTOP)
            time.sleep(2)
            tell(recording, "write 10000")
            recording.send_signal(signal.SIGCONT)
            time.sleep(0.5)
            tell(recording, "write 1000")
        tell(recording, "mark")
        _, err = recording.communicate(timeout=60)
        assert recording.returncode == 0, err
    found = manifest(tmp_path)
    ((index, said),) = threads(tmp_path).values()
    assert found["lost"] == {} and len(index.events) == 34_001
    told = [one["number"] for one in said.values() if one["number"] >= 0]
    assert told == sorted(set(told)) and len(told) + found["threads"][0]["details_lost"] == 34_000
    assert found["counters"]["mode_transitions"] >= 6 and found["counters"]["fallback_events"] > 20_000


@pytest.mark.parametrize("phase", ["before", "inside", "after"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGSTOP])
def test_a_signal_in_each_phase(tmp_path, phase, number):
    """Before a mark, inside its window, after it."""
    options = ("--trigger", "exception=Never", "--pre-roll-sec", "0.1", "--post-roll-sec", "0.3")
    with begin(tmp_path, TOLD, *options) as recording:
        dead = False

        def step(name, count):
            nonlocal dead
            if dead:
                return
            tell(recording, f"write {count}")
            if name != phase:
                return
            if number == signal.SIGSTOP:
                (file,) = (tmp_path / "run").glob("atf/*/*.process")
                pid = int(file.name.partition("-")[0])
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.5)
                os.kill(pid, signal.SIGCONT)
            else:
                tell(recording, f"die {int(number)}", answers=False)
                dead = True

        step("before", 1000)
        if not dead:
            tell(recording, "mark")
        step("inside", 1000)
        if not dead:
            time.sleep(0.5)
        step("after", 1000)
        recording.communicate(timeout=60)
    found = manifest(tmp_path)
    assert found["status"] == "complete" and found["lost"] == {}
    ((index, said),) = threads(tmp_path).values()
    at, kinds = index.events["timestamp_ns"].astype(int).tolist(), index.events["event_kind"].tolist()
    windows = found["windows"]
    assert len(windows) == (0 if (phase, dead) == ("before", True) else 1) and all(one["complete"] for one in windows)
    inside = {seq for seq in range(len(at)) if kinds[seq] == 4 and any(w["startNs"] <= at[seq] <= w["endNs"] for w in windows)}
    assert set(said) == inside


SOAK = """
import atf, time
end = time.monotonic() + SECONDS
number = 0
while time.monotonic() < end:
    for _ in range(200):
        atf.event("numbered", number=number, text="x" * 100)
        number += 1
    time.sleep(0.001)
print(number, flush=True)
"""


def rss_bytes(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_soak_leaves_memory_flat(tmp_path):
    """An hour in a minute: the history is small, so that it is used up and turned over all the time."""
    seconds = int(os.environ.get("ATF_SOAK_S", "60"))
    sizes = []
    with begin(tmp_path, SOAK.replace("SECONDS", str(seconds)), "--trigger", "exception=Never", "--pre-roll-sec", "5", "--history-size", "16M") as recording:
        over = threading.Event()

        def watch():
            while not over.wait(0.5):
                sizes.append(rss_bytes(recording.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            number = int(recording.stdout.readline())
        finally:
            over.set()
            watcher.join()
        recording.communicate(timeout=60)
    found = manifest(tmp_path)
    third = len(sizes) // 3
    grown = max(sizes[-third:]) - max(sizes[third : 2 * third])
    print(f"\n{number} events in {seconds} s, RSS {min(sizes) >> 20} to {max(sizes) >> 20} MiB, last third against the one before it: {grown >> 10} KiB")
    assert number > 10_000 * seconds and found["flight"]["history"]["cut_items"] > 0
    assert grown < 2 << 20
    assert found["threads"][0]["events"] + found["threads"][0]["lost"] >= number
