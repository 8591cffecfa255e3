"""The drain as Python sees it: begin, status, end, going on behind a dead one, and a disk that refuses."""

import os
import pathlib
import resource
import signal
import sys
import time

import pytest
from accounts import checked_sources

from atf._core import drain, recorder, segment
from atf._core.errors import OutputError
from atf._core.reader import IndexFile

OPTIONS = {"slots": 2, "index_rings": 2, "index_bytes": 4096, "detail_rings": 2, "detail_bytes": 16384, "global_cells": 64, "names_bytes": 256}


@pytest.fixture
def session(monkeypatch):
    made = segment.SegmentSet.create(options=OPTIONS, policy="drop-oldest")
    made.remove()
    recorder.open_session(made.segments)
    with checked_sources(monkeypatch, drain):
        yield made
    recorder.close_session()
    made.detach()


def write(count):
    for _ in range(count):
        recorder.record(4, 1)


def index(path, number=0):
    return IndexFile(pathlib.Path(path) / f"thread_{number}" / "index.atf")


def test_begin_and_end(session, tmp_path):
    engine, source = drain.Drain(), drain.Source(session.segments, tmp_path)
    engine.add(source)
    write(100)
    assert source.totals["events"] == 0, "nothing is read before the thread runs"
    engine.start()
    assert engine.running
    engine.start()  # nothing
    recorder.close_session()
    engine.join()
    engine.finish(source)
    engine.finish(source)  # nothing
    assert source.finished and not engine.running
    assert [one["events"] for one in source.threads()] == [100] and source.totals["events"] == 100
    assert index(tmp_path).report.status == "finalized" and len(index(tmp_path).events) == 100


def test_a_flush_shows_rings_that_are_not_full(session, tmp_path):
    engine, source = drain.Drain(flush_ns=0), drain.Source(session.segments, tmp_path)
    engine.add(source)
    write(3)
    engine.start()
    for _ in range(2000):
        if source.totals["events"] == 3:
            break
        os.sched_yield()
        time.sleep(0.001)
    assert source.totals["events"] == 3 and not source.threads()[0]["finished"]
    engine.join()
    engine.finish(source)


def test_resume_goes_on_behind_what_is_there(session, tmp_path):
    """FORBIDDEN: a record twice, or missing, after a second drain took over from one that ended without a word."""
    first = drain.Drain(flush_ns=0)
    abandoned = drain.Source(session.segments, tmp_path)
    first.add(abandoned)
    write(200)
    first.start()
    while abandoned.totals["events"] < 200:
        os.sched_yield()
    first.join()
    first.drop(abandoned)
    with open(tmp_path / "thread_0" / "index.atf", "ab") as file:
        file.write(b"\x01" * 17)  # a record that was being written
    write(50)
    second, source = drain.Drain(), drain.Source(session.segments, tmp_path, resume=True)
    second.add(source)
    recorder.close_session()
    second.finish(source)
    assert len(index(tmp_path).events) == 250 and not (index(tmp_path).events["event_kind"] == 8).any()
    assert source.totals["events"] == 50


@pytest.mark.parametrize("written", [0, 1, 32, 40, 63, 64])
def test_resume_cuts_a_footer_whose_header_was_not_written(session, tmp_path, written):
    """FORBIDDEN: a part of a footer taken for events. The killed drain had written that many of the footer's bytes."""
    engine, source = drain.Drain(), drain.Source(session.segments, tmp_path)
    engine.add(source)
    write(70)
    recorder.close_session()
    engine.finish(source)
    path = tmp_path / "thread_0" / "index.atf"
    data = bytearray(path.read_bytes())
    data[28:32], data[40:48] = bytes(4), (64).to_bytes(8, "little")
    path.write_bytes(data[: len(data) - 64 + written])
    recorder.open_session(session.segments)
    # The slot was given back; a recovery of the same thread number needs it as the dead drain left it.
    again = segment.SegmentSet.create(options=OPTIONS, policy="drop-oldest")
    again.remove()
    recorder.close_session()
    recorder.open_session(again.segments)
    write(90)
    second, resumed = drain.Drain(), drain.Source(again.segments, tmp_path, resume=True)
    second.add(resumed)
    recorder.close_session()
    second.finish(resumed)
    assert len(index(tmp_path).events) == 90, "records 0 to 69 are in the file, 70 to 89 come behind them"
    assert set(index(tmp_path).events["event_kind"].tolist()) == {4}
    again.detach()


def abandoned(session, tmp_path, *, details):
    """A drain that wrote 40 records of one thread and ended without a word; some of them with details."""
    first = drain.Drain(flush_ns=0)
    source = drain.Source(session.segments, tmp_path)
    first.add(source)
    for number in range(40):
        recorder.event("tick", n=number) if details else recorder.record(4, 1)
    first.start()
    while source.totals["events"] < 40:
        os.sched_yield()
    first.join()
    first.drop(source)


def test_resume_leaves_files_alone_that_it_cannot_go_on_with(session, tmp_path):
    """FORBIDDEN: the files of a dead recorder emptied, or rings let go, because its detail file cannot be opened."""
    abandoned(session, tmp_path, details=True)
    there = (tmp_path / "thread_0" / "index.atf").read_bytes()
    (tmp_path / "thread_0" / "detail.atf").rename(tmp_path / "kept")
    (tmp_path / "thread_0" / "detail.atf").mkdir()
    write(30)
    recorder.close_session()
    second, source = drain.Drain(), drain.Source(session.segments, tmp_path, resume=True)
    second.add(source)
    second.finish(source, dead=True)
    assert source.totals["refused"] == 1 and "directory" in source.totals["disk_error"]
    assert (tmp_path / "thread_0" / "index.atf").read_bytes() == there
    (tmp_path / "thread_0" / "detail.atf").rmdir()
    (tmp_path / "kept").rename(tmp_path / "thread_0" / "detail.atf")
    third, again = drain.Drain(), drain.Source(session.segments, tmp_path, resume=True)
    third.add(again)
    third.finish(again, dead=True)
    assert again.totals["refused"] == 0 and again.totals["disk_error"] is None
    assert index(tmp_path).events["event_kind"].tolist() == [4] * 70


def test_a_refused_detail_is_told_though_its_event_was_written(session, tmp_path):
    """FORBIDDEN: a detail that the disk refused, and no word of it."""
    (tmp_path / "thread_0" / "detail.atf").mkdir(parents=True)
    engine, source = drain.Drain(), drain.Source(session.segments, tmp_path)
    engine.add(source)
    recorder.event("tick", n=1)
    recorder.close_session()
    engine.finish(source)
    (one,) = source.threads()
    assert (one["events"], one["details"], one["details_lost"]) == (1, 0, 1) and "directory" in source.totals["disk_error"]


def test_a_directory_that_cannot_be(session, tmp_path):
    with pytest.raises(OutputError):
        drain.Source(session.segments, "x" * 5000)
    with pytest.raises(OutputError, match="no such directory"):
        drain.Source(session.segments, tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_disk_full_is_told_by_a_gap(session, tmp_path):
    """FORBIDDEN: records that the disk refused and no GAP tells. The limit of a file's size plays the full disk."""
    engine, source = drain.Drain(flush_ns=0), drain.Source(session.segments, tmp_path)
    engine.add(source)
    old, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    engine.start()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 + 32 * 100 + 7, limits[1]))
        for _ in range(4):
            write(60)
            time.sleep(0.02)
        engine.settle()
        assert "large" in source.totals["disk_error"]
        assert source.threads()[0]["lost"] == {"disk full": 140}
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    write(10)
    recorder.close_session()
    engine.join()
    engine.finish(source)
    events = index(tmp_path).events
    assert events["event_kind"].tolist() == [4] * 100 + [8] + [4] * 10
    assert int(events["function_id"][100]) == 140 and int(events["call_depth"][100]) == 3
