"""Conditions in Python over events: what they are asked about, what is counted, and that nothing is decided before."""

import time

import pytest

import atf
from atf._core import drain, recorder, segment
from atf._core.reader import DetailFile, IndexFile
from atf.conditions import Conditions
from atf.triggers import parse_all

MS = 1_000_000
OPTIONS = {"slots": 8, "index_rings": 3, "index_bytes": 65536, "detail_rings": 3, "detail_bytes": 65536, "global_cells": 64, "names_bytes": 65536}
NONE = 0xFFFFFFFF


@pytest.fixture
def session():
    made = segment.SegmentSet.create(options=OPTIONS, policy="block")
    made.remove()
    recorder.open_session(made.segments)
    yield made
    recorder.close_session()
    made.detach()


class Asking:
    """A drain of this process whose details are kept around what conditions hold for."""

    def __init__(self, session, path, *said, pre_ns=0):
        self.session, self.path = session, path
        self.engine, self.source = drain.Drain(), drain.Source(session.segments, path)
        self.engine.flight("details", pre_ns, 0, 64 << 20)
        self.triggers = parse_all(said)
        self.engine.rules([("asked", "", 0)] * len(said))
        self.engine.add(self.source)
        self.names = {}
        self.conditions = Conditions(self.engine, lambda key, function: ("user", self.names.get(function, "")) if key == self.source.key else ("?", "?"))
        self.conditions.replace(self.triggers)

    def take_names(self):
        self.names.update({identifier: name for kind, identifier, _, name, _ in self.session.segments.names(0)[1] if kind == 2})

    def ask(self, limit_s=10.0):
        self.conditions.work(self.take_names, limit_s)

    def end(self):
        recorder.close_session()
        self.engine.settle()
        self.ask()
        self.engine.settle()
        windows = self.engine.windows()
        self.engine.finish(self.source)
        place = self.path / "thread_0"
        return windows, IndexFile(place / "index.atf"), DetailFile(place / "detail.atf") if (place / "detail.atf").exists() else None


def test_every_field_is_the_events_own(session, tmp_path):
    seen = []

    class Spy:
        def holds(self, *fields):
            seen.append(fields)
            return False

    asking = Asking(session, tmp_path, "python=depth > 99")
    object.__setattr__(asking.triggers[0], "expression", Spy())
    with atf.span("outer"), atf.span("inner"):
        time.sleep(0.02)
    with pytest.raises(KeyError), atf.span("failing"):
        raise KeyError
    atf.event("point", n=1)
    windows, index, details = asking.end()
    assert windows == [] and details is None
    stamps, tid = index.events["timestamp_ns"].tolist(), int(index.events["thread_id"][0]) if "thread_id" in index.events.dtype.names else seen[0][3]
    took = {("return", "inner"): stamps[2] - stamps[1], ("return", "outer"): stamps[3] - stamps[0], ("exception", "failing"): stamps[5] - stamps[4]}
    expected = [("call", "outer", 0), ("call", "inner", 1), ("return", "inner", 1), ("return", "outer", 0), ("call", "failing", 0), ("exception", "failing", 0)]
    assert seen == [
        *((kind, name, "user", tid, depth, at, took.get((kind, name), 0)) for (kind, name, depth), at in zip(expected, stamps, strict=False)),
        ("instant", "point", "user", tid, 0, stamps[6], 0),
    ]
    assert took["return", "inner"] > 19 * MS


def test_it_marks_at_the_events_own_time_however_late_it_is_asked(session, tmp_path):
    asking = Asking(session, tmp_path, "python=name == 'never'", "python=name == 'it' and kind == 'instant'")
    for n in range(50):
        atf.event("it" if n == 20 else "other", n=n)
    for _ in range(3):
        asking.engine.settle()
        time.sleep(0.01)
    assert asking.engine.windows() == [] and asking.engine.history["used"] > 0, "nothing is decided before it was asked"
    windows, index, details = asking.end()
    assert [(w["mark_ns"], w["marks"], w["rule"]) for w in windows] == [(int(index.events["timestamp_ns"][20]), 1, 1)]
    kept = [seq for seq, detail in enumerate(index.events["detail_seq"].tolist()) if detail != NONE]
    assert 20 in kept and set(index.events["timestamp_ns"][kept].tolist()) == {windows[0]["mark_ns"]}
    assert not len(details.broken_links(index.events))


def test_one_that_raises_is_counted_and_told_once(session, tmp_path):
    asking = Asking(session, tmp_path, "python=1 / (depth - 1) < 0 and len(kind) == name", "python=name == 'good'")
    for _ in range(30):
        with atf.span("outer"), atf.span("bad"):
            pass
    atf.event("good", n=1)
    windows, index, _ = asking.end()
    assert [w["mark_ns"] for w in windows] == [int(index.events["timestamp_ns"][-1])], "another one is asked all the same"
    assert asking.conditions.summary() == {"seen": 121, "missed": 0, "raised": 60}
    (told,) = asking.conditions.complaints
    assert "ZeroDivisionError" in told and "python=1 / (depth - 1) < 0" in told


def test_what_there_is_no_time_for_is_counted(session, tmp_path):
    asking = Asking(session, tmp_path, "python=name == 'last'")
    asking.engine.start()
    count = 200_000
    for _ in range(count):
        atf.event("filler")
    asking.engine.settle()
    asking.ask(limit_s=0.0)
    assert asking.engine.asked == (131_072, count - 131_072)
    assert asking.conditions.behind
    asking.conditions.give_up()
    assert asking.conditions.summary() == {"seen": count, "missed": count - 64, "raised": 0}
    asking.ask()
    assert not asking.conditions.behind
    atf.event("last", n=1)
    windows, index, _ = asking.end()
    assert [w["mark_ns"] for w in windows] == [int(index.events["timestamp_ns"][-1])]


def test_other_triggers_ask_anew(session, tmp_path):
    asking = Asking(session, tmp_path, "python=name == 'a'")
    atf.event("a", n=1)
    asking.engine.settle()
    asking.engine.rules([("asked", "", 0)])
    asking.conditions.replace(parse_all(["python=name == 'b'"]))
    atf.event("b", n=1)
    atf.event("a", n=1)
    windows, index, _ = asking.end()
    assert [w["mark_ns"] for w in windows] == [int(index.events["timestamp_ns"][1])]
