"""Slices against an oracle: what a program of known events wrote between two moments is what the slice holds, and nothing else."""

import itertools
import json
import os
import pathlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import atf
from atf import runtime
from atf._core import drain
from atf._core.errors import OutputError, SessionError, UsageError
from atf.cli import main
from atf.slices import Slices
from slicing import Worker, beginning, read, write  # noqa: F401 - beginning: the fixture slices

RING = 384  # records of one of the four rings that ring_size="64K" gives a thread


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
                # of the ring in which the stretch begins one is counted, of an overwritten one in which it ends none
                assert bool(front) == bool(missing) and missing - RING * (1 if here else 2) < front <= missing
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
    for k, (start, end) in enumerate(itertools.pairwise(moments)):
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
