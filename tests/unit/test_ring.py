"""The ring pools against their oracle: any order of records and drain passes gives the file that the model predicts."""

import pathlib
import sys
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atf._core import layout, ring
from atf._core.errors import OutputError, SessionError, UsageError
from atf._core.reader import DetailFile, IndexFile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from oracle_ring import Model

SIZES = st.one_of(st.none(), st.none(), st.integers(0, 60), st.sampled_from([0, 8192, 5000]))
BURST = st.builds(lambda size, n: [size] * n, SIZES, st.integers(1, 300))
STEP = st.one_of(
    st.tuples(st.just("produce"), BURST, st.booleans()),
    st.tuples(st.just("produce"), st.lists(SIZES, max_size=20), st.booleans()),
    st.tuples(st.just("drain"), st.booleans()),
)


def written(directory, number=0):
    """What the two files of a thread say, in the oracle's terms; fails where a link holds one way only."""
    place = pathlib.Path(directory) / f"thread_{number}"
    if not place.exists():
        return []
    index = IndexFile(place / "index.atf")
    assert index.report.status == "finalized"
    detail = DetailFile(place / "detail.atf") if (place / "detail.atf").exists() else None
    found, linked = [], 0
    for position, event in enumerate(index.events):
        if event["event_kind"] == 8:
            found.append(("gap", int(event["function_id"])))
            continue
        number, size = int(event["function_id"]), None
        if event["detail_seq"] != layout.NO_DETAIL:
            record = detail.of_event(position, int(event["detail_seq"]))
            assert record is not None, f"event {position}: its link does not lead back"
            assert set(bytes(record.payload)) <= {number % 256}, "the detail of another record"
            size, linked = len(record.payload), linked + 1
        found.append(("event", number, size))
    assert linked == (detail.report.records if detail is not None else 0)
    return found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(STEP, max_size=14),
    st.integers(2, 4),
    st.sampled_from([0, 2, 3]),
    st.sampled_from([2, 16, 128]),
    st.sampled_from([0, 1, 3]),
    st.sampled_from(["drop-oldest", "block"]),
)
def test_any_order_of_steps(steps, index_rings, detail_rings, cells, spares, policy):
    """FORBIDDEN: a file that differs from the model's in any record, GAP or detail. Under block the deadline is over at once."""
    model = Model(index_rings, 128, detail_rings, 16384, cells, spares, 20480)
    options = {
        "index_rings": index_rings, "detail_rings": detail_rings, "global_cells": cells,
        "spare_rings": spares, "spare_bytes": 20480, "policy": policy,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        with ring.Pool(directory, **options) as pool:
            for kind, what, *silent in steps:
                if kind == "produce":
                    pool.produce(what, silent[0])
                    for size in what:
                        model.produce(size, silent[0])
                else:
                    assert pool.drain(what) == model.drain(what)
            stats, borrowable = pool.stats, len(model.index.spares)
            pool.finish()
        model.finish()
        assert written(directory) == model.file
        assert stats["taken_back"] == model.index.taken_back
        assert stats["spares_free"] == borrowable


def test_a_burst_borrows_and_gives_back(tmp_path):
    """FORBIDDEN: a record of a burst that has room in the spare rings is lost, or a spare ring is not there for the next thread."""
    with ring.Pool(tmp_path, spare_rings=4, spare_bytes=16384) as pool:
        for _ in range(3):
            pool.produce([None] * (2 * 128 + 4 * 512))
            assert pool.stats["spares_free"] == 0 and pool.stats["taken_back"] == 0
            while pool.drain():
                pass
            pool.leave()
            pool.drain()
            assert pool.stats["spares_free"] == 4
    for number in range(3):
        assert written(tmp_path, number) == [("event", k, None) for k in range(2 * 128 + 4 * 512)]


def test_nobody_borrows_from_a_drain_that_is_gone(tmp_path):
    with ring.Pool(tmp_path, spare_rings=2) as pool:
        pool.produce([None] * 1000, silent=True)
        assert pool.stats["spares_free"] == 2 and pool.stats["lane"] == 16


def test_a_thread_after_another_gets_its_slot(tmp_path):
    """FORBIDDEN: records of a thread in the file of another, or missing because its slot was taken again."""
    with ring.Pool(tmp_path) as pool:
        for count in (5, 300, 128, 1):
            pool.produce([3, None] * count)
            pool.drain(True)
            pool.leave()
            pool.drain()
    for number, count in enumerate((5, 300, 128, 1)):
        events = [one[1] for one in written(tmp_path, number) if one[0] == "event"]
        gaps = [one[1] for one in written(tmp_path, number) if one[0] == "gap"]
        assert len(events) + sum(gaps) == 2 * count and events == sorted(set(events))


def test_slots_are_full_then_the_global_lane_is_used(tmp_path):
    with ring.Pool(tmp_path, global_cells=64) as pool:
        for _ in range(2):  # their slots stay EXITED until the drain comes
            pool.produce([None])
            pool.leave()
        pool.produce([None] * 100)
        assert pool.stats["lane"] == 64 and pool.stats["lane_dropped"] == 36
        pool.drain()
        pool.produce([None] * 10)
    assert written(tmp_path, 2) == [*(("event", k, None) for k in range(64)), ("gap", 36), *(("event", k, None) for k in range(100, 110))]


def test_one_at_a_time(tmp_path):
    with ring.Pool(tmp_path):
        with pytest.raises(SessionError, match="another pool or measurement"):
            ring.Pool(tmp_path)
        with pytest.raises(SessionError, match="one at a time"):
            ring.pair(1000)


def test_wrong_use(tmp_path):
    with ring.Pool(tmp_path) as pool:
        with pytest.raises(UsageError):
            pool.produce([9000])
        pool.finish()
        with pytest.raises(SessionError):
            pool.produce([None])
    with pytest.raises(OutputError):
        ring.Pool(tmp_path / ("x" * 4000))
    with pytest.raises(UsageError):
        ring.through_files(10, tmp_path, "block", 0)


@pytest.mark.parametrize("clock", [True, False])
def test_pair(clock):
    done = ring.pair(300_000, clock, 1 << 16)
    assert done["records"] == 300_000 and done["lost"] == 0 and done["checksum_ok"] and done["seconds"] > 0


def test_record_cost():
    assert 0 < ring.record_cost(100_000) < 10_000


@pytest.mark.parametrize("threads", [1, 3])
def test_through_files(tmp_path, threads):
    """FORBIDDEN under block: a record that is not in the files."""
    done = ring.through_files(60_000, tmp_path, "block", threads, 1 << 14)
    assert done["events"] == 60_000 and done["lost"] == 0
    for number in range(threads):
        assert written(tmp_path, number) == [("event", k, None) for k in range(60_000 // threads)]


def test_does_not_disturb_a_recording(tmp_path):
    import atf

    with atf.record(tmp_path / "out", python=False):
        atf.event("before")
        ring.pair(10_000, True, 1 << 14)
        ring.through_files(10_000, tmp_path / "files")
        atf.event("after")
    with atf.open(tmp_path / "out") as trace:
        assert [event.function.name for event in trace.events()] == ["before", "after"]
