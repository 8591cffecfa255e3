"""Recordings in parts, driven by hand: what each part begins with and counts, against an oracle; and turns that were cut short."""

import random
import shutil
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))
from partcheck import head_of

from atf import budget, metrics, recovery_parts
from atf._core import drain, recorder, segment
from atf._core.errors import OutputError, SessionError, UsageError
from atf._core.reader import DetailFile, IndexFile
from atf.parts import Limits, name_of

OPTIONS = {"slots": 4, "index_rings": 2, "index_bytes": 4096, "detail_rings": 2, "detail_bytes": 16384, "global_cells": 64, "names_bytes": 4096}
CALL, RETURN, INSTANT, GAP = 1, 2, 4, 8


@pytest.fixture
def session():
    made = segment.SegmentSet.create(options=OPTIONS, policy="drop-oldest")
    made.remove()
    recorder.open_session(made.segments)
    yield made
    recorder.close_session()
    made.detach()


def begin(session, root, max_bytes=0, max_age_ns=0):
    place = root / name_of(1) / "pid_7"
    place.mkdir(parents=True)
    engine = drain.Drain()
    engine.parts(root, max_bytes, max_age_ns)
    source = drain.Source(session.segments, place)
    engine.add(source)
    return engine, source


def thread_of(root, part, number=0):
    return IndexFile(root / name_of(part) / "pid_7" / f"thread_{number}" / "index.atf")


def own_events(root, number=0):
    """A thread's records over all parts, and [(part, records before it, calls told again)]."""
    events, heads, before = [], [], 0
    for place in sorted(root.glob(f"part_*/pid_7/thread_{number}")):
        index = IndexFile(place / "index.atf")
        assert index.report.status == "finalized"
        all_events = index.events
        if (place / "detail.atf").exists():
            assert len(DetailFile(place / "detail.atf").broken_links(all_events)) == 0
        earlier, carried = head_of(all_events)
        assert earlier == before
        heads.append((int(place.parent.parent.name[5:]), earlier, [tuple(e) for e in all_events[1 : 1 + carried][["function_id", "call_depth"]].tolist()]))
        mine = all_events[carried + 1 if earlier else 0 :]
        gaps = mine["event_kind"] == GAP
        before += len(mine) - int(gaps.sum()) + int(mine["function_id"][gaps].sum())
        events += mine.tolist()
    return events, heads


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.booleans()), min_size=1, max_size=12), st.integers(0, 1 << 30))
def test_parts_against_an_oracle(tmp_path_factory, batches, seed):
    """Random calls, with rings that may be too small for what comes between two looks: FORBIDDEN: a part that begins with other calls
    than those in progress, numbers of a part that do not add up, and numbers of all parts that are not the thread's."""
    root, rng = tmp_path_factory.mktemp("parts"), random.Random(seed)
    made = segment.SegmentSet.create(options=OPTIONS, policy="drop-oldest")
    made.remove()
    recorder.open_session(made.segments)
    engine, source = begin(made, root)
    spans, wrote, stacks = [], 0, {}
    left = []
    try:
        for size, turn, flood in batches:
            for _ in range(size * (12 if flood else 1)):
                step = rng.random()
                if step < 0.35 and len(spans) < 20:
                    spans.append(recorder.Span(f"f{rng.randrange(5)}"))
                    spans[-1].__enter__()
                elif step < 0.6 and spans:
                    spans.pop().__exit__(None, None, None)
                elif step < 0.9:
                    recorder.record(INSTANT, 99)
                else:
                    recorder.event("said", n=1)
                wrote += 1
            if turn:
                engine.turn()
            before = engine.part
            engine.settle()
            if engine.part != before:
                stacks[engine.part] = len(spans)
            left += engine.left()
        open_at_end = len(spans)
        while spans:
            spans.pop().__exit__(None, None, None)
            wrote += 1
    finally:
        recorder.close_session()
    engine.finish(source)
    left += engine.left()
    rows = [*(row for one in left for row in one["threads"]), *source.threads()]
    for row in rows:
        assert metrics.unaccounted(metrics.of_thread(row)) == (0, 0)
    assert sum(row["produced"] for row in rows) == wrote
    events, heads = own_events(root)
    gaps = [event for event in events if event[3] == GAP]
    assert len(events) - len(gaps) == sum(row["written"] for row in rows)
    assert sum(event[1] for event in gaps) == sum(sum(row["lost"].values()) for row in rows)
    if not gaps and wrote:
        stack = []
        walked = {part: (earlier, told) for part, earlier, told in heads}
        for position, (_, function_id, _, kind, depth, _) in enumerate(events):
            for part, (earlier, told) in list(walked.items()):
                if earlier == position:
                    assert told == (stack if any(e[3] == RETURN for e in events[:position]) else []), part
                    assert len(told) in (0, stacks.get(part, 0))
                    del walked[part]
            if kind == CALL:
                stack.append((function_id, depth))
            elif kind == RETURN:
                stack.pop()
        assert open_at_end >= 0 and not stack
    made.detach()
    shutil.rmtree(root)


def test_a_part_without_records_is_none(session, tmp_path):
    engine, source = begin(session, tmp_path, max_age_ns=1)
    engine.settle()
    assert engine.part == 1
    recorder.record(INSTANT, 1)
    engine.settle()
    engine.settle()
    assert engine.part == 2, "the second has no records: what it begins with does not count"
    recorder.close_session()
    engine.finish(source)


def test_size_holds(session, tmp_path):
    engine, source = begin(session, tmp_path, max_bytes=8192)
    for _ in range(100):
        for _ in range(40):
            recorder.record(INSTANT, 1)
        engine.settle()
    recorder.close_session()
    engine.finish(source)
    sizes = [len(thread_of(tmp_path, part).events) * 32 for part in range(1, engine.part + 1)]
    assert all(8192 - 192 <= size < 8192 + 2 * 40 * 32 for size in sizes[:-1]) and len(sizes) > 10


def test_threads_that_ended_are_forgotten(session, tmp_path):
    engine, source = begin(session, tmp_path)
    total = 0
    for _ in range(30):
        for _ in range(5):
            one = threading.Thread(target=lambda: [recorder.record(INSTANT, 1) for _ in range(10)])
            one.start()
            one.join()
            engine.settle()
        recorder.record(INSTANT, 2)
        total += 51
        engine.turn()
        engine.settle()
        assert budget.produced(source) == total, "FORBIDDEN: a budget that forgets what ended with a part"
        assert len(source.threads()) <= 2, "the one that goes on, and perhaps the last one: it tells its end after join()"
    left = engine.left()
    recorder.close_session()
    engine.finish(source)
    assert sum(row["produced"] for one in left for row in one["threads"]) == total and len(left) == 30
    assert all(len(one["threads"]) <= 7 for one in left)


def test_a_disk_that_refuses_the_next_part(session, tmp_path):
    """It goes on in the part that is there, and turns later."""
    engine, source = begin(session, tmp_path)
    (tmp_path / name_of(2)).write_text("in the way")
    recorder.record(INSTANT, 1)
    engine.turn()
    engine.settle()
    assert engine.part == 1
    recorder.record(INSTANT, 1)
    engine.settle()
    assert len(thread_of(tmp_path, 1).events) == 2
    recorder.close_session()
    engine.finish(source)
    assert [row["produced"] for row in source.threads()] == [2]


def test_what_cannot_be(session, tmp_path):
    engine, _ = begin(session, tmp_path)
    with pytest.raises(SessionError):
        engine.parts(tmp_path, 0, 0)
    other = drain.Drain()
    with pytest.raises(SessionError):
        other.turn()
    assert other.part == 0 and other.left() == []
    with pytest.raises(OutputError):
        other.parts("x" * 4000, 0, 0)
    windows = drain.Drain()
    windows.flight("details", 0, 0, 1 << 20)
    with pytest.raises(SessionError):
        windows.parts(tmp_path, 0, 0)
    for config in ({"max_size": "1K"}, {"max_age_ns": "5"}, {"max_age_ns": "0"}, {"max_parts": "3"}, {"max_size": "1M", "max_parts": "1"}, {"max_size": "much"}):
        with pytest.raises(UsageError):
            Limits.of(config)
    assert Limits.of({}) is None and Limits.of({"max_size": "1M", "max_parts": "2"}) == (1 << 20, 0, 2)


# ---------------------------------------------------------------- a turn that was cut short
def unfinished(index):
    """As a recorder leaves a file that was killed before its footer."""
    data = bytearray(index.read_bytes())
    data[28:32], data[40:48] = bytes(4), (64).to_bytes(8, "little")
    index.write_bytes(data[:-64])


@pytest.mark.parametrize("how", ["nothing but directories", "one file is not complete", "half of the threads", "half a file", "no manifest", "all there"])
def test_a_turn_that_was_cut_short(session, tmp_path, how):
    """FORBIDDEN: a record that is lost or written twice, a gap where none is, a part that is left half made."""
    engine, source = begin(session, tmp_path)
    go, there = [threading.Event(), threading.Event()], threading.Event()

    def work():
        with recorder.Span("deep"):
            for _ in range(20):
                recorder.event("other", n=1)
            there.set()
            go[0].wait()
        go[1].wait()

    recorder.record(INSTANT, 1)
    other = threading.Thread(target=work)
    other.start()
    there.wait()
    for _ in range(29):
        recorder.record(INSTANT, 1)
    recorder.record(RETURN, 5)
    engine.settle()
    engine.turn()
    engine.settle()
    assert engine.part == 2
    engine.drop(source)
    first, second = (tmp_path / name_of(part) / "pid_7" for part in (1, 2))
    (first / "manifest.json").write_text('{"symbols": [], "modules": [], "status": "recording", "threads": []}')
    if how != "no manifest":
        (second / "manifest.json").write_text('{"status": "recording", "part": {"continues": true}}')
    if how in ("nothing but directories", "one file is not complete"):
        for place in second.glob("thread_*"):
            shutil.rmtree(place)
    if how == "one file is not complete":
        unfinished(first / "thread_1" / "index.atf")
    if how == "half of the threads":
        shutil.rmtree(second / "thread_1")
    if how == "half a file":
        (second / "thread_1" / "index.atf").rename(second / "thread_1" / "index.new")
    for _ in range(25):
        recorder.record(INSTANT, 1)
    go[0].set()
    go[1].set()
    other.join()
    recorder.close_session()
    place, in_earlier = recovery_parts.written_last(str(first))
    assert place == str(first if how in ("nothing but directories", "one file is not complete") else second)
    assert second.exists() == (place == str(second))
    again = drain.Drain()
    resumed = drain.Source(session.segments, place, resume=True, in_earlier=in_earlier)
    again.add(resumed)
    again.finish(resumed)
    for row in resumed.threads():
        assert metrics.unaccounted(metrics.of_thread(row)) == (0, 0)
    mine, _ = own_events(tmp_path, 0)
    theirs, heads = own_events(tmp_path, 1)
    assert [e[3] for e in mine] == [INSTANT] * 30 + [RETURN] + [INSTANT] * 25
    assert [e[3] for e in theirs] == [CALL] + [INSTANT] * 20 + [RETURN]
    moved = place == str(second) and how not in ("half of the threads", "half a file")
    assert len(heads) == (2 if moved else 1) and not list(tmp_path.rglob("index.new"))
    assert {row["in_earlier"] for row in resumed.threads() if row["number"] == 1} == {place == str(second) and not moved}
