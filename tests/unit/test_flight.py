"""Windows: what is kept around marks, against what a slow reading of the same events says should be."""

import pathlib
import random
import threading
import time

import msgspec
import numpy as np
import pytest
from accounts import check_source, checked_sources

import atf
from atf._core import drain, recorder, segment
from atf._core.errors import SessionError, UsageError
from atf._core.reader import DetailFile, IndexFile

MS = 1_000_000
OPTIONS = {"slots": 8, "index_rings": 3, "index_bytes": 8192, "detail_rings": 3, "detail_bytes": 16384, "global_cells": 64, "names_bytes": 65536}
NONE = 0xFFFFFFFF
FAR = 1 << 63


@pytest.fixture
def session(monkeypatch):
    made = segment.SegmentSet.create(options=OPTIONS, policy="block")
    made.remove()
    recorder.open_session(made.segments)
    with checked_sources(monkeypatch, drain):
        yield made
    recorder.close_session()
    made.detach()


class Flight:
    """A drain that keeps windows of this process."""

    def __init__(self, session, path, keep, pre_ns, post_ns, rules=(("mark", "", 0),), history=64 << 20):
        self.path, self.session = path, session
        self.engine, self.source = drain.Drain(), drain.Source(session.segments, path)
        self.engine.flight(keep, pre_ns, post_ns, history)
        self.engine.rules(list(rules))
        self.engine.add(self.source)

    def end(self):
        recorder.close_session()
        self.engine.settle()
        windows = self.engine.windows()
        self.engine.finish(self.source)
        return windows

    def files(self):
        for one in self.source.threads():
            place = pathlib.Path(self.path) / f"thread_{one['number']}"
            if (place / "index.atf").exists():
                yield one, IndexFile(place / "index.atf"), DetailFile(place / "detail.atf") if (place / "detail.atf").exists() else None


def union(marks, pre_ns, post_ns):
    """Windows by the slowest way: every mark's own, joined while any two touch."""
    windows = sorted([mark - pre_ns, mark + post_ns] for mark in marks)
    joined = []
    for start, end in windows:
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return joined


def write(rng, count, plan):
    """Events with and without details, marks now and then; notes in `plan` what was written, in order."""
    for number in range(count):
        kind = rng.choices(("detail", "plain", "mark", "pause"), (60, 20, 0.7, 3))[0]
        if kind == "detail":
            atf.event("filler", number=number, text="x" * rng.randrange(200))
        elif kind == "plain":
            atf.event("plain")
        elif kind == "mark":
            atf.mark("look", number=number)
        else:
            time.sleep(rng.random() * 0.002)
            continue
        plan.append((kind, number))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threads", [1, 4])
def test_details_lie_inside_the_windows_and_nowhere_else(session, tmp_path, seed, threads):
    rng = random.Random(seed)
    pre, post = rng.choice([0, MS, 5 * MS]), rng.choice([0, MS, 3 * MS])
    flight = Flight(session, tmp_path, "details", pre, post)
    flight.engine.start()
    plans = [[] for _ in range(threads)]
    run = [threading.Thread(target=write, args=(random.Random(seed * 100 + i), 1500, plans[i])) for i in range(threads)]
    for thread in run:
        thread.start()
    while any(thread.is_alive() for thread in run):
        if seed % 2:
            flight.engine.settle()
        time.sleep(rng.random() * 0.004)
    windows = flight.end()
    found = list(flight.files())
    counted = sum(len(plan) for plan in plans)
    assert sum(len(index.events) for _, index, _ in found) == counted and not any(one["lost"] for one, _, _ in found)
    times = {one["number"]: index.events["timestamp_ns"].astype(int).tolist() for one, index, _ in found}
    marks = []
    for one, index, details in found:
        plan = plans[next(i for i in range(threads) if len(plans[i]) == len(index.events) and matches(index, plans[i]))]
        one["plan"] = plan
        marks += [at for at, (kind, _) in zip(times[one["number"]], plan, strict=True) if kind == "mark"]
        assert details is None or not len(details.broken_links(index.events))
    expected = union(marks, pre, post)
    assert [[w["start_ns"], w["end_ns"]] for w in windows] == expected and sum(w["marks"] for w in windows) == len(marks)
    for one, index, details in found:
        has = (index.events["detail_seq"] != NONE).tolist()
        inside = [any(start <= at <= end for start, end in expected) for at in times[one["number"]]]
        assert has == [kind != "plain" and yes for (kind, _), yes in zip(one["plan"], inside, strict=True)]
        assert (details is not None) == any(has), "no mark, no detail.atf"
        assert one["details"] == sum(has) and one["details"] + one["details_unkept"] == sum(kind != "plain" for kind, _ in one["plan"])


def matches(index, plan):
    """Whether a thread's events are those of a plan, told by which of them are plain."""
    names = index.events["function_id"].tolist()
    return len({(name, kind) for name, (kind, _) in zip(names, plan, strict=True)}) <= 3


def numbers(index, details):
    """What each event says of itself: its attribute `number`, or None without a detail."""
    found = []
    for seq, detail in enumerate(index.events["detail_seq"].tolist()):
        record = None if detail == NONE else details.of_event(seq, detail)
        found.append(None if record is None else msgspec.msgpack.decode(record.payload)["attributes"]["number"])
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threads", [1, 4])
def test_nothing_but_windows_is_written(session, tmp_path, seed, threads):
    rng = random.Random(seed)
    pre, post = rng.choice([MS, 5 * MS]), rng.choice([0, MS, 3 * MS])
    flight = Flight(session, tmp_path, "windows", pre, post)
    flight.engine.start()
    times = [{} for _ in range(threads)]
    run = [threading.Thread(target=write_timed, args=(random.Random(seed * 100 + i), i * 10_000, times[i])) for i in range(threads)]
    for thread in run:
        thread.start()
    while any(thread.is_alive() for thread in run):
        if seed % 2:
            flight.engine.settle()
        time.sleep(rng.random() * 0.004)
    windows = flight.end()
    found = list(flight.files())
    threads_seen = flight.source.threads()
    assert windows and len(threads_seen) == threads and not any(one["lost"] for one in threads_seen)
    assert sum(one["events"] - gaps(index) + one["unkept"] for one, index, _ in found) + sum(
        one["unkept"] for one in threads_seen if not one["events"]
    ) == sum(map(len, times)), "written + not kept = produced"
    for _, index, details in found:
        events = index.events
        real = events["event_kind"] != 8
        stamps = events["timestamp_ns"].astype(int)
        assert all(any(w["start_ns"] <= at <= w["end_ns"] for w in windows) for at in stamps.tolist())
        said = [n for n, yes in zip(numbers(index, details), real.tolist(), strict=True) if yes]
        thread = said[0] // 10_000
        assert said == sorted(set(said)) and {number // 10_000 for number in said} == {thread}
        # Its own clock was read before and after each event: those surely inside are there, and none that is surely outside.
        for number, (before, after) in times[thread].items():
            surely = any(w["start_ns"] <= before and after <= w["end_ns"] for w in windows)
            maybe = any(w["start_ns"] <= after and before <= w["end_ns"] for w in windows)
            assert maybe if number in said else not surely


def gaps(index):
    kinds = index.events["event_kind"]
    assert set(index.events["call_depth"][kinds == 8].tolist()) <= {5}
    return int((kinds == 8).sum())


def write_timed(rng, first, times):
    """Numbered events, marks among them; notes of each between which moments it was written."""
    for number in range(first, first + 1500):
        kind = rng.choices(("detail", "mark", "pause"), (80, 0.7, 3))[0]
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 2000
        if kind == "detail":
            atf.event("filler", number=number, text="x" * rng.randrange(200))
        elif kind == "mark":
            atf.mark("look", number=number)
        else:
            time.sleep(rng.random() * 0.002)
            continue
        times[number] = (before, time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 2000)


def test_no_mark_nothing_written(session, tmp_path):
    flight = Flight(session, tmp_path, "windows", MS, MS)
    write(random.Random(1), 200, plan := [])
    flight.engine.rules([])
    flight.end()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert sum(one["unkept"] for one in flight.source.threads()) == len(plan) > 100


def test_a_second_drain_does_not_take_for_lost_what_no_window_covered(session, tmp_path):
    flight = Flight(session, tmp_path, "windows", 0, 0)
    for n in range(50):
        atf.event("before", number=n)
    time.sleep(0.001)
    atf.mark("now", number=-1)
    flight.engine.settle()
    flight.engine.drop(flight.source)
    recorder.close_session()
    engine, source = drain.Drain(), drain.Source(session.segments, tmp_path, resume=True)
    engine.add(source)
    engine.finish(source)
    (one,) = source.threads()
    assert (one["lost"], one["unkept"], one["written"], one["produced"]) == ({}, 50, 1, 51)


@pytest.mark.parametrize("marked", [False, True])
def test_what_a_forgotten_gap_told_stays_lost(tmp_path, marked):
    made = segment.SegmentSet.create(options={**OPTIONS, "spare_rings": 0}, policy="drop-oldest")
    made.remove()
    recorder.open_session(made.segments)
    flight = Flight(made, tmp_path, "windows", MS, MS)
    for turn in range(4):  # three rings of 256 events: the oldest are lost, and a gap in the history tells how many
        for n in range(2000):
            atf.event("step", number=n)
        flight.engine.settle()
        time.sleep(0.005)
        if marked and turn == 1:
            atf.mark("here", number=0)
            flight.engine.settle()
            time.sleep(0.005)
    flight.end()
    (row,) = check_source(flight.source)
    assert row["produced"] == 8000 + marked and sum(row["lost"].values()) > 4 * 1000 and row["held"] == 0
    assert row["unkept"] + sum(row["lost"].values()) + row["written"] == row["produced"] and bool(row["written"]) == marked
    made.detach()


@pytest.mark.parametrize("keep", ["details", "windows"])
def test_a_window_whose_file_cannot_be_opened_is_told(session, tmp_path, keep):
    flight = Flight(session, tmp_path, keep, 1000 * MS, 1000 * MS)
    (tmp_path / "thread_0").write_text("no directory")
    for n in range(100):
        atf.event("step", number=n)
    for _ in range(50):
        atf.event("plain")
    atf.mark("here", number=100)
    flight.end()
    (row,) = check_source(flight.source)
    assert row["details"] == row["written"] == 0 and row["details_lost"] == row["details_seen"] == 101
    assert row["lost"] == {"disk full": 151} and flight.source.totals["disk_error"]


def test_a_flood_pays_for_itself(session, tmp_path):
    """Memory for history is used up by one thread: another one's history stays whole."""
    flight = Flight(session, tmp_path, "details", 3600 * 1000 * MS, 0, history=1 << 20)
    flight.engine.start()
    quiet = threading.Thread(target=lambda: [atf.event("quiet", number=n) for n in range(100)])
    quiet.start()
    quiet.join()
    for n in range(20_000):
        atf.event("flood", number=n, text="x" * 100)
    flight.engine.settle()
    atf.mark("now", number=-1)
    flight.end()
    assert flight.engine.history["cut_items"] > 10_000 and flight.engine.history["most"] <= 1 << 20
    by_size = sorted(flight.files(), key=lambda one: len(one[1].events))
    assert [n for n in numbers(*by_size[0][1:]) if n is not None] == list(range(100))
    kept = [n for n in numbers(*by_size[1][1:]) if n is not None]
    assert kept == [*range(kept[0], 20_000), -1] and len(kept) > 2000, "the newest"


def test_symbols_that_get_their_name_late(session, tmp_path):
    """Calls that came before their function was named are marked when it is."""
    flight = Flight(session, tmp_path, "details", MS, MS, rules=[("symbol", "seek", 0), ("symbol", "never", 0)])
    with atf.span("seek"):
        atf.event("inside", number=1)
    time.sleep(0.01)
    with atf.span("other"):
        atf.event("outside", number=2)
    flight.engine.settle()
    assert flight.engine.windows() == []
    _, names = session.segments.names(0)
    ids = {name: identifier for kind, identifier, _, name, _ in names if kind == 2}
    flight.source.name_functions(np.array(list(ids.values()), np.uint64), np.array([name == "seek" for name in ids], np.uint32), FAR)
    (window,) = flight.end()
    ((_, index, details),) = flight.files()
    assert numbers(index, details) == [None, 1, None, None, None, None]
    assert window["rule"] == 0 and window["marks"] >= 1


@pytest.mark.parametrize("named", ["before", "meanwhile"])
def test_durations(session, tmp_path, named):
    flight = Flight(session, tmp_path, "details", 1000 * MS, 0, rules=[("duration", "slow", 60 * MS)])

    def name():
        ids = {one: identifier for kind, identifier, _, one, _ in session.segments.names(0)[1] if kind == 2}
        flight.engine.settle()
        flight.source.name_functions(np.array(list(ids.values()), np.uint64), np.array([one == "slow" for one in ids], np.uint32), FAR)

    with atf.span("slow"), atf.span("never"):
        pass
    if named == "before":
        name()
    for _ in range(3):
        with atf.span("slow"):
            time.sleep(0.001)
    with atf.span("other"):
        time.sleep(0.01)
    with pytest.raises(ZeroDivisionError), atf.span("slow"):
        if named == "meanwhile":
            name()
        time.sleep(0.09)
        1 / 0  # noqa: B018
    windows = flight.end()
    ((_, index, _),) = flight.files()
    assert [(w["mark_ns"], w["marks"]) for w in windows] == [(int(index.events["timestamp_ns"][-1]), 1)]


def test_exceptions_by_type(session, tmp_path):
    flight = Flight(session, tmp_path, "details", 0, 0, rules=[("exception", "KeyError", 0)])
    for error in (ValueError("no"), KeyError("yes"), LookupError("no"), OSError(2, "no")):
        time.sleep(0.001)
        try:
            with atf.span("work"):
                raise error
        except Exception:  # noqa: BLE001,S110
            pass
    (window,) = flight.end()
    ((_, index, details),) = flight.files()
    (kept,) = [seq for seq, detail in enumerate(index.events["detail_seq"].tolist()) if detail != NONE]
    assert details.record(0).payload.tobytes().find(b"KeyError") > 0 and int(index.events["timestamp_ns"][kept]) == window["mark_ns"]


def test_bad_input(session, tmp_path):
    engine = drain.Drain()
    with pytest.raises(SessionError, match="keeps everything"):
        engine.windows()
    with pytest.raises(UsageError, match="at least"):
        engine.flight("details", 0, 0, 1)
    engine.flight("details", 0, 0, 1 << 20)
    with pytest.raises(SessionError, match="before"):
        engine.flight("details", 0, 0, 1 << 20)
    with pytest.raises(UsageError, match="at most"):
        engine.rules([("mark", "", 0)] * 32)
    with pytest.raises(UsageError, match="at most 119"):
        engine.rules([("exception", "x" * 120, 0)])
    with pytest.raises(UsageError, match="ends after"):
        engine.keep(2, 1)
