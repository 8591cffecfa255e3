"""Slices of programs with many threads, of threads that ended, and of forked children."""

import random
import subprocess
import sys
import threading
import time

import atf
from atf._core import layout
from atf.slices import Slices
from slicing import GAP, NUMBERED, Worker, beginning, read, write  # noqa: F401 - beginning: the fixture slices


def test_threads_that_ended_leave_their_slots_to_others(slices, tmp_path):
    """More threads than slots, one after the other: the last ones are there, of the others it is told how much they wrote."""
    s = slices(slots=4, ring_size="64K")
    start = s.now_ns()
    tids = []
    for k in range(9):
        worker = Worker()
        worker.do(lambda k=k: write(100 * k, 10 + k))
        tids.append(worker.native_id)
        worker.end()
    kept = s.keep(tmp_path / "t", start, s.now_ns())
    with atf.open(kept.path) as trace:
        rows = [thread.events.tolist() for thread in trace.threads]
        assert [thread.tid for thread in trace.threads] == tids
    for k, events in enumerate(rows):
        if k < 5:
            assert [(event[3], event[1]) for event in events] == [(GAP, 10 + k)]
        else:
            assert [event[1] - NUMBERED for event in events] == list(range(100 * k, 100 * k + 10 + k))
    assert kept.overwritten == sum(range(10, 15)) == trace_lost(kept.path)
    later = s.now_ns()
    assert s.keep(tmp_path / "later", later, s.now_ns()).overwritten == 0


def trace_lost(path):
    with atf.open(path) as trace:
        return trace.info["lost"].get("exhausted", 0)


def test_more_threads_at_once_than_slots(slices, tmp_path):
    """The others' records are in the global lane, which makes room for newer ones as tests go by."""
    s = slices(slots=2)
    workers = [Worker() for _ in range(5)]
    try:
        for turn in range(30):
            start = s.now_ns()
            for k, worker in enumerate(workers):
                worker.do(lambda k=k: write(1000 * k, 300))
            found = read(s.keep(tmp_path / str(turn), start, s.now_ns()).path)
            assert found == {worker.native_id: list(range(1000 * k, 1000 * k + 300)) for k, worker in enumerate(workers)}
    finally:
        for worker in workers:
            worker.end()


def test_python_calls_with_arguments_while_eight_threads_write(tmp_path):
    """FORBIDDEN: a slice that is no whole trace, a number missing without a GAP, or a record or detail that a thread had to drop."""
    s = Slices(None, {"level": "args", "ring_size": "256K", "include": [__name__]})
    s.begin()
    over = threading.Event()
    try:
        threads = [threading.Thread(target=flood, args=(over,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        start, made = s.now_ns(), []
        until = time.monotonic() + 1.2
        while time.monotonic() < until or len(made) < 8:
            back = random.choice([0, 200_000, 5_000_000, 1 << 40])
            made.append(s.keep(tmp_path / str(len(made)), max(s.now_ns() - back, start), s.now_ns()))
        rows = s._recording.segments.segments.slots()
        info = s._recording.segments.segments.info
    finally:
        over.set()
        for thread in threads:
            thread.join(20)
        s.end()
    assert sum(row["taken_back"] for row in rows) > 20, "the rings went round"
    assert [(row["lost_newest"], row["details_lost"]) for row in rows] == [(0, 0)] * len(rows)
    assert info["fallback_events"] == info["global_dropped"] == 0
    for kept in made:
        with atf.open(kept.path) as trace:
            assert trace.check() == [] and trace.status == "complete"
    for kept in made[-3:]:
        check_flood(kept)


def numbered(number):
    return number


def flood(over):
    number = 0
    while not over.is_set():
        numbered(number)
        number += 1


def check_flood(kept):
    with atf.open(kept.path) as trace:
        assert trace.check() == [] and trace.status == "complete"
        gaps = 0
        for thread in trace.threads:
            expected = None
            for position, event in enumerate(thread.events):
                if event["event_kind"] == GAP:
                    gaps += int(event["function_id"])
                    expected = None
                elif event["event_kind"] == 1 and trace.processes[0].function(int(event["function_id"])).name == "numbered":
                    detail = thread.detail_of(position, int(event["detail_seq"]))
                    number = detail["args"]["number"] if detail else expected
                    assert expected is None or number == expected
                    expected = None if number is None else number + 1
        assert kept.lost.get("exhausted", 0) == gaps >= kept.overwritten


FORKED = """
import os, sys, json
import atf
from atf.slices import Slices
slices = Slices(None, {"python": False})
slices.begin()
start = slices.now_ns()
atf.event("parent", n=1)
pid = os.fork()
if not pid:
    atf.event("nobody records this")
    slices.begin()
    child = slices.now_ns()
    atf.event("child", n=2)
    slices.keep(sys.argv[1] + "/child", child, slices.now_ns())
    slices.end()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
atf.event("parent", n=3)
slices.keep(sys.argv[1] + "/parent", start, slices.now_ns())
slices.end()
"""


def test_a_forked_child_begins_again(tmp_path):
    done = subprocess.run([sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""
    names = {}
    for who in ("child", "parent"):
        with atf.open(tmp_path / who) as trace:
            assert trace.check() == []
            names[who] = [event.function.name for event in trace.events()]
            assert layout.NO_DETAIL not in trace.threads[0].events["detail_seq"]
    assert names == {"child": ["child"], "parent": ["parent", "parent"]}
