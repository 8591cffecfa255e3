"""Overload: the states of lanes against a slow reading of the same looks, what one thread may take, and what is never dropped."""

import itertools
import pathlib
import random
import threading
import time

import msgspec
import pytest

import atf
from atf._core import drain, recorder, segment
from atf._core.reader import DetailFile, IndexFile
from atf._core.ring import Pressure

SECOND = 1_000_000_000
NORMAL, PRESSURE, DROPPING, RECOVERY = range(4)
OPTIONS = {"slots": 8, "index_rings": 3, "index_bytes": 8192, "detail_rings": 3, "detail_bytes": 16384, "global_cells": 1024, "names_bytes": 65536}


# ---------------------------------------------------------------- the state machine
def state_after(looks):
    """From the whole past, by what the states mean: (free, total, lost, ns), the newest last."""
    none = [lost or not free for free, _, lost, _ in looks]
    bad = [empty or 4 * free < total for (free, total, _, _), empty in zip(looks, none, strict=True)]
    half = [not empty and 2 * free >= total for (free, total, _, _), empty in zip(looks, none, strict=True)]
    if not any(bad):
        return NORMAL
    last = max(i for i, one in enumerate(bad) if one)
    since = [i for i in range(last, len(looks)) if half[i]]
    if not since:
        began = max((i for i in range(len(looks)) if half[i]), default=-1)
        return DROPPING if any(none[began + 1 :]) else PRESSURE
    for first in since:  # a run of looks with half free that spans a second
        end = first
        while end < len(looks) and half[end]:
            if looks[end][3] - looks[first][3] >= SECOND:
                return NORMAL
            end += 1
    return RECOVERY


@pytest.mark.parametrize("seed", range(20))
def test_states_of_a_lane(seed):
    rng = random.Random(seed)
    lane, looks, ns, seen = Pressure(), [], 5 * SECOND, set()
    level = rng.random()
    for _ in range(80):
        total = rng.choice((3, 4, 8, 66))
        level = min(max(level + rng.gauss(0, 0.25), 0), 1) if rng.random() < 0.8 else rng.random()
        ns += int(rng.choice((0, 0.002, 0.25, 0.6, 1.1)) * SECOND)
        looks.append((round(level * total), total, rng.random() < 0.03, ns))
        seen.add(state_after(looks))
        assert lane.look(*looks[-1]) == state_after(looks), looks[-5:]
    assert len(seen) >= 3


# ---------------------------------------------------------------- lanes of a real session
def make(**more):
    made = segment.SegmentSet.create(options={**OPTIONS, **more}, policy="drop-oldest")
    made.remove()
    recorder.open_session(made.segments)
    return made


@pytest.fixture
def session(request):
    made = make(**getattr(request, "param", {}))
    yield made
    recorder.close_session()
    made.detach()


def opened(session, path):
    engine, source = drain.Drain(), drain.Source(session.segments, path)
    engine.add(source)
    return engine, source


def ended(engine, source):
    recorder.close_session()
    engine.finish(source)
    return {one["number"]: one for one in source.threads()}, source.overload()


def numbers(path, thread):
    """The `number` attributes that stand in a thread's files, in order."""
    place = pathlib.Path(path) / f"thread_{thread}"
    index, details = IndexFile(place / "index.atf"), DetailFile(place / "detail.atf")
    records = [details.of_event(seq, link) for seq, link in enumerate(index.events["detail_seq"].tolist()) if link != 0xFFFFFFFF]
    return [msgspec.msgpack.decode(record.payload)["attributes"]["number"] for record in records]


def run(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("session", [{}, {"spare_rings": 4, "spare_bytes": 16384}], indirect=True)
def test_every_loss_stands_in_one_period(session, tmp_path, seed):
    rng = random.Random(seed)
    engine, source = opened(session, tmp_path)
    written = 0
    for _ in range(60):
        count = rng.choice((10, 300, 700, 2500, 6000))
        written += count
        for _ in range(count):
            atf.event("plain")
        for _ in range(rng.choice((0, 2))):
            engine.settle()
    (thread,), found = ended(engine, source)[0].values(), source.overload()
    assert thread["events"] - len(gaps := events_of_kind(tmp_path, 8)) + thread["lost"].get("exhausted", 0) == written and len(gaps) > 0
    periods = [one for one in found["periods"] if one["lane"] == "index"]
    assert sum(one["dropped"] for one in periods) == thread["lost"]["exhausted"] > 0 and found["unlisted"] == 0
    assert {one["state"] for one in periods if one["dropped"]} == {"dropping"}
    assert all(one["startNs"] <= one["endNs"] for one in periods)
    assert all(one["endNs"] <= other["startNs"] for one, other in itertools.pairwise(periods))
    (lane,) = [one for one in found["lanes"] if one["lane"] == "index"]
    assert lane["entered"]["pressure"] + lane["entered"]["dropping"] == len(periods)


def events_of_kind(path, kind):
    (index,) = [IndexFile(one) for one in pathlib.Path(path).glob("thread_*/index.atf")]
    return index.events[index.events["event_kind"] == kind]


def test_a_lane_becomes_normal_again(session, tmp_path):
    engine, source = opened(session, tmp_path)
    atf.event("plain")
    engine.settle()
    assert source.overload() == {"lanes": [], "periods": [], "unlisted": 0}
    for _ in range(5000):
        atf.event("plain")
    states = []
    for pause in (0, 0, 0, 1.05):
        time.sleep(pause)
        engine.settle()
        (lane,) = source.overload()["lanes"]
        states.append(lane["state"])
    assert states[0] == "dropping" and states[-2:] == ["recovery", "normal"], states
    (period,) = source.overload()["periods"]
    assert period["endNs"] and period["thread"] == 0 and period["lane"] == "index"
    threads, _ = ended(engine, source)
    assert period["dropped"] == threads[0]["lost"]["exhausted"] > 0


def test_periods_are_as_many_as_fit(session, tmp_path):
    engine, source = opened(session, tmp_path)
    for _ in range(300):
        for _ in range(800):
            atf.event("plain")
        for _ in range(3):  # full, what it cost, and well again
            engine.settle()
    threads, found = ended(engine, source)
    assert len(found["periods"]) == 256 and found["unlisted"] > 40
    assert sum(one["dropped"] for one in found["periods"]) < threads[0]["lost"]["exhausted"]
    assert all(one["endNs"] for one in found["periods"])


@pytest.mark.parametrize("session", [{"spare_rings": 16, "spare_bytes": 16384}], indirect=True)
def test_a_flood_leaves_spare_rings_to_others(session, tmp_path):
    """FORBIDDEN: a thread whose burst fits into its own rings and an eighth of the spare ones loses a record to another's flood."""
    engine, source = opened(session, tmp_path)

    def flood():
        for _ in range(15_000):
            atf.event("flood")

    def burst():
        for _ in range(3 * 256 + 2 * 512 - 1):
            atf.event("burst")

    def both():  # the flood's rings stay its own while the other one writes
        flood()
        run(burst)

    run(both)
    threads, found = ended(engine, source)
    assert threads[1]["events"] == 3 * 256 + 2 * 512 - 1 and threads[1]["lost"] == {}
    assert threads[0]["lost"]["exhausted"] + threads[0]["events"] == 15_000 + 1, "a GAP stands for what it lost"
    assert threads[0]["events"] > 13 * 512, "a single thread may have the rest"
    assert {one["thread"] for one in found["periods"] if one["dropped"]} == {0}


# ---------------------------------------------------------------- what is never dropped
@pytest.mark.parametrize("kept", [True, False])
def test_an_event_that_is_never_dropped(session, tmp_path, kept):
    """Nobody drains, every ring and the global lane are full, and the program writes on."""
    def write(first, count):
        for number in range(first, first + count):
            atf.event("plain", number=number)

    write(0, 6000)
    (recorder.kept_event if kept else atf.event)("crash", number=6000)
    write(6001, 6000)
    engine, source = opened(session, tmp_path)
    threads, found = ended(engine, source)
    events = [IndexFile(tmp_path / "thread_0" / "index.atf").events]
    names = events[0]["function_id"]
    lost = int(names[events[0]["event_kind"] == 8].sum())
    assert int((events[0]["event_kind"] != 8).sum()) + lost == 12_001 and lost == threads[0]["lost"]["exhausted"]
    said = names[(events[0]["event_kind"] != 8) & (names == 2)]  # names are numbered as they come: plain, crash
    assert len(said) == (1 if kept else 0)
    at = events[0]["timestamp_ns"].astype(int)
    assert (at[1:] >= at[:-1]).all()
    assert {one["state"] for one in found["periods"] if one["lane"] == "global"} == {"pressure"}


def test_events_that_are_never_dropped_keep_their_order(session, tmp_path):
    """Among others, more of them than the cells that are kept for them, while the drain looks now and then."""
    rng = random.Random(3)
    engine, source = opened(session, tmp_path)
    for number in range(3000):
        (recorder.kept_event if rng.random() < 0.02 else atf.event)("one", number=number)
        if rng.random() < 0.05:
            engine.settle()
    threads, _ = ended(engine, source)
    assert threads[0]["lost"] == {} and numbers(tmp_path, 0) == list(range(3000))
