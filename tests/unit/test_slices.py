"""Slices against an oracle: what a program of known events wrote between two moments is what the slice holds, and nothing else."""

import json
import os
import pathlib
import queue
import random
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atf
from atf import runtime
from atf._core import drain, layout, recorder
from atf._core.errors import OutputError, SessionError, UsageError
from atf.cli import main
from atf.slices import Slices

INSTANT, GAP = 4, 8
RING = 384  # records of one of the four rings that ring_size="64K" gives a thread
NUMBERED = 1 << 20  # function ids from here on tell the number of a bare record


class Worker(threading.Thread):
    """A thread that does what it is told, and tells when it is done."""

    def __init__(self):
        super().__init__(daemon=True)
        self.asked, self.done = queue.SimpleQueue(), queue.SimpleQueue()
        self.start()

    def run(self):
        while (wanted := self.asked.get()) is not None:
            self.done.put(wanted())

    def do(self, wanted):
        self.asked.put(wanted)
        return self.done.get(timeout=20)

    def end(self):
        self.asked.put(None)
        self.join(20)
        time.sleep(0.001)  # its slot is left by a destructor of the thread library, after Python's join


@pytest.fixture
def slices():
    made = []

    def begin(**config):
        made.append(Slices(None, {"python": False, **config}))
        made[-1].begin()
        return made[-1]

    yield begin
    for one in made:
        one.end()


def write(first, count, details=False):
    for number in range(first, first + count):
        if details:
            atf.event("numbered", number=number)
        else:
            recorder.record(INSTANT, NUMBERED + number)


def read(path):
    """{tid: [number, or None where its detail is gone, or ("gap", n)]} of a trace, which must be whole."""
    found = {}
    with atf.open(path) as trace:
        assert trace.check() == [] and trace.status == "complete" and trace.info["recovered"] == {"files": [], "problems": []}
        for thread in trace.threads:
            assert thread.index.report.status == "finalized"
            times = thread.events["timestamp_ns"].tolist()
            assert times == sorted(times)
            rows = found.setdefault(thread.tid, [])
            for position, event in enumerate(thread.events):
                if event["event_kind"] == GAP:
                    rows.append(("gap", int(event["function_id"])))
                elif event["function_id"] >= NUMBERED:
                    rows.append(int(event["function_id"]) - NUMBERED)
                else:
                    detail = thread.detail_of(position, int(event["detail_seq"]))
                    rows.append(detail["attributes"]["number"] if detail else None)
    return found


STEP = st.tuples(st.integers(0, 2), st.sampled_from([1, 2, 40, RING - 1, RING, 1000]), st.booleans(), st.integers(0, 9).map(lambda n: n == 0))


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_any_program_any_stretch(tmp_path_factory, steps, choose):
    """FORBIDDEN: a record of the stretch that is in the rings and not in the slice; one of another stretch; `overwritten` 0 when some
    were gone, or more than were."""
    place = tmp_path_factory.mktemp("slices")
    slices = Slices(None, {"python": False, "ring_size": "64K"})
    slices.begin()
    workers = [None] * 3
    written = {}  # tid: [(step, number, with detail)]
    try:
        moments, number = [slices.now_ns()], 0
        for step, (which, count, details, over) in enumerate(steps):
            workers[which] = worker = workers[which] or Worker()
            worker.do(lambda: write(number, count, details))
            written.setdefault(worker.native_id, []).extend((step, number + k, details) for k in range(count))
            number += count
            if over:
                worker.end()
                workers[which] = None
            moments.append(slices.now_ns())
        for attempt in range(6):
            first, last = sorted(choose.sample(range(len(moments)), 2)) if attempt else (0, len(moments) - 1)
            kept = slices.keep(place / str(attempt), moments[first], moments[last])
            found, gone = read(kept.path), 0
            for tid, rows in written.items():
                there = max(0, (len(rows) - 1) // RING - 3) * RING  # the first that no ring was taken back over
                wanted = [(k, row) for k, row in enumerate(rows) if first <= row[0] < last]
                missing = sum(k < there for k, _ in wanted)
                here = [row for k, row in wanted if k >= there]
                shown = found.pop(tid, [])
                front = shown.pop(0)[1] if shown and isinstance(shown[0], tuple) else 0
                if front == 1 and not missing and not here:
                    front = 0  # it wrote nothing then, and before and after it in the same ring: nobody knows any more
                    kept = kept._replace(overwritten=kept.overwritten - 1, lost={"exhausted": kept.lost["exhausted"] - 1})
                assert bool(front) == bool(missing) and missing - RING < front <= missing
                gone += front
                assert [None if got is None else row[1] for row, got in zip(here, shown, strict=True)] == shown
                assert all(got is not None for row, got in list(zip(here, shown, strict=True))[-50:] if row in rows[-100:]), "the newest details are there"
            assert {tid for tid in found if found[tid]} == set()
            assert kept.overwritten == gone and kept.lost.get("exhausted", 0) == gone
    finally:
        slices.end()
        for worker in workers:
            if worker:
                worker.end()


def test_a_slice_takes_nothing_out(slices, tmp_path):
    """FORBIDDEN: a second slice of the same stretch, or a drain of the same rings, that has other records."""
    s = slices(ring_size="64K")
    start = s.now_ns()
    write(0, 1000, details=True)
    end = s.now_ns()
    first, again = (s.keep(tmp_path / name, start, end) for name in ("a", "b"))
    for name in ("index.atf", "detail.atf"):
        assert (tmp_path / "a/thread_0" / name).read_bytes() == (tmp_path / "b/thread_0" / name).read_bytes()
    assert first[1:] == again[1:] and first.events == 1000
    active = s._recording
    active.end()
    (tmp_path / "drained").mkdir()
    source, into = drain.Source(active.segments.segments, tmp_path / "drained"), drain.Drain()
    into.add(source)
    into.finish(source)
    with atf.open(tmp_path / "drained") as whole, atf.open(first.path) as trace:
        assert (whole.threads[0].events["function_id"] == trace.threads[0].events["function_id"]).all()
        assert whole.threads[0].events["detail_seq"].tolist() == trace.threads[0].events["detail_seq"].tolist()
    del source, into


def test_stretches_side_by_side_have_every_record_once(slices, tmp_path):
    s = slices()
    moments = [s.now_ns()]
    for k in range(40):
        write(100 * k, 100, details=k % 2)
        moments.append(s.now_ns())
    found = []
    for k, (start, end) in enumerate(zip(moments, moments[1:], strict=False)):
        (rows,) = read(s.keep(tmp_path / str(k), start, end).path).values()
        found += rows
    assert found == list(range(4000))


def test_what_a_moment_was_called_it_is_called_for_ever(slices, tmp_path):
    """FORBIDDEN: a stretch whose records change when the clock is led again."""
    s = slices()
    start = s.now_ns()
    write(0, 50)
    end = s.now_ns()
    write(50, 50)
    before = read(s.keep(tmp_path / "before", start, end).path)
    count = 0
    until = time.monotonic() + 0.4  # several turns
    while time.monotonic() < until:
        a = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        b = s.now_ns()
        c = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert a - 1_000_000 < b < c + 1_000_000
        assert b >= end
        count += 1
    assert count > 100
    write(100, 50)
    assert read(s.keep(tmp_path / "after", start, end).path) == before
    assert list(before.values()) == [list(range(50))]


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
        rows = [[row for row in thread.events.tolist()] for thread in trace.threads]
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


def test_the_manifest_names_what_occurs_and_nothing_else(slices, tmp_path):
    s = slices()
    with atf.span("elsewhere", x=1):
        pass
    start = s.now_ns()
    with atf.span("here"):
        atf.event("inside", y=2)
    kept = s.keep(tmp_path / "deep" / "below" / "t", start, s.now_ns(), note={"nodeid": "tests/a.py::b[ü]", "n": 1})
    manifest = json.loads((tmp_path / "deep/below/t/manifest.json").read_text())
    assert {one["name"] for one in manifest["symbols"]} == {"here", "inside"}
    assert [one["name"] for one in manifest["modules"]] == ["user"]
    assert manifest["test"] == {"nodeid": "tests/a.py::b[ü]", "n": 1} and manifest["slice"]["overwritten"] == 0
    assert kept.events == 3 and kept.lost == {} and kept.overwritten == 0
    assert kept.bytes == sum(path.stat().st_size for path in pathlib.Path(kept.path).rglob("*") if path.is_file())
    with atf.open(kept.path) as trace:
        assert [(span.name, span.status) for span in trace.spans()] == [("here", "ok")]
        assert trace.threads[0].name == "MainThread" and trace.info["processes"][0]["pid"] == os.getpid()


def test_calls_that_were_open_before_and_stay_open_after(slices, tmp_path):
    """A return whose call is before the stretch makes no span; a call that is open at its end is open."""
    s = slices()
    outer, inner = atf.span("outer"), atf.span("inner")
    outer.__enter__()
    start = s.now_ns()
    with atf.span("whole"):
        pass
    outer.__exit__(None, None, None)
    inner.__enter__()
    kept = s.keep(tmp_path / "t", start, s.now_ns())
    inner.__exit__(None, None, None)
    with atf.open(kept.path) as trace:
        assert [(span.name, span.status) for span in trace.spans()] == [("whole", "ok"), ("inner", "open")]


def test_an_empty_stretch_is_a_trace(slices, tmp_path):
    s = slices()
    for name, stretch in (("nothing yet", (0, 1)), ("nothing there", (s.now_ns(), s.now_ns()))):
        kept = s.keep(tmp_path / name, *stretch)
        assert (kept.events, kept.overwritten) == (0, 0) and list(read(kept.path).values()) == [[]]
        write(0, 1)
    main(["info", str(tmp_path / "nothing yet")])


def test_other_readers_open_it(slices, tmp_path, capsys):
    from querying import ask

    s = slices()
    start = s.now_ns()
    with atf.span("shop"), atf.span("pay"):
        pass
    s.keep(tmp_path / "test_pay", start, s.now_ns())
    for command in ("info", "tree", "top", "spans", "events"):
        main([command, str(tmp_path / "test_pay")])
        assert "Traceback" not in (said := capsys.readouterr().out) and said
    assert [row["traceId"] for row in ask(tmp_path, "traces.list")["traces"]] == ["test_pay"]
    assert ask(tmp_path, "trace.info", traceId="test_pay")["status"] == "complete"
    assert {row["functionName"] for row in ask(tmp_path, "functions.top", traceId="test_pay")["functions"]} == {"shop", "pay"}


def test_refusals(slices, tmp_path):
    s = slices()
    with pytest.raises(UsageError, match="ends before it begins"):
        s.keep(tmp_path / "t", 2, 1)
    with pytest.raises(UsageError, match="colour"):
        Slices(None, {"colour": 1})
    with pytest.raises(UsageError, match="level"):
        Slices(None, {"level": "everything"})
    with pytest.raises(UsageError, match="JSON"):
        s.keep(tmp_path / "t", 0, 1, note={"x": object()})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        s.keep(tmp_path / "file", 0, 1)
    with pytest.raises(OutputError):
        s.keep(tmp_path / "file" / "below", 0, 1)
    s.keep(tmp_path / "twice", 0, 1)
    before = sorted((tmp_path / "twice").rglob("*"))
    with pytest.raises(OutputError, match="exists"):
        s.keep(tmp_path / "twice", 0, 1)
    assert sorted((tmp_path / "twice").rglob("*")) == before
    with pytest.raises(SessionError, match="already"):
        Slices().begin()
    with pytest.raises(SessionError, match="already"):
        s.begin()
    s.end()
    s.end()
    for call in (s.now_ns, lambda: s.keep(tmp_path / "t", 0, 1)):
        with pytest.raises(SessionError, match="begin"):
            call()
    assert not (tmp_path / "t").exists()


def test_nothing_is_left_behind(slices):
    def there():
        rows = pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
        return {row.split()[1] for row in rows if row.split()[4] == str(os.getpid())}

    before = there()
    s = slices()
    session = s.session
    assert runtime.processes(session)[0]["pid"] == str(os.getpid()) and len(there() - before) == 3
    s.end()
    assert not os.path.exists(session) and there() == before
    s.begin()
    s.end()


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
