"""TraceCollector against its slow version, and what it must reach in a process without a recording."""

import json
import os
import threading
import uuid

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_collector import Collector, Event

import atf
from atf import Duration, Severity, Timestamp, TraceCollector, TraceEvent
from atf.errors import InvalidType, InvalidValue, OutputError

TEXTS = st.one_of(st.text(max_size=5), st.sampled_from(["", "a", "b", "é", "\ud800", "\U0001f600", "x" * 40, "y" * 300]))
NAMES = st.sampled_from(["a", "b", "é", "\udfff"])
HEX = ["", "0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000001"]
NS = st.one_of(st.integers(0, 5), st.integers(0, 2**63 - 1))
EVENTS = st.builds(
    Event,
    event_type=NAMES, component=NAMES, timestamp_ns=NS, duration_ns=NS, model_id=TEXTS, request_id=st.sampled_from(["", "r", "q", *HEX]), rationale=TEXTS,
    severity=st.integers(0, 3), attributes=st.dictionaries(TEXTS, TEXTS, max_size=3).map(lambda found: tuple(found.items())),
    decision_chain_id=st.sampled_from(["", "c"]), parent_id=TEXTS, trace_id=st.sampled_from(HEX), span_id=st.sampled_from(["", "b7ad6b7169203331"]),
)  # fmt: skip
STEPS = st.lists(st.one_of(EVENTS, EVENTS, EVENTS, st.just("clear")), max_size=30)


def same(found, expected):
    assert [event.to_dict() for event in found] == [event.exported() for event in expected]


def pair(steps, size):
    """The compiled and the slow collector after the same steps."""
    fast, slow = TraceCollector(size, require_rationale=()), Collector(size)
    for step in steps:
        if step == "clear":
            fast.clear()
            slow.clear()
        else:
            assert fast.record(TraceEvent.from_dict(step.arguments())) == step.event_id
            slow.record(step)
    return fast, slow


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(1, 12), st.data())
def test_it_answers_as_the_slow_one(steps, size, data):
    fast, slow = pair(steps, size)
    assert fast.size() == len(fast) == len(slow.events) and fast.dropped == slow.dropped and fast.refused == 0
    same(fast.query(), slow.query())
    one = lambda values: data.draw(st.one_of(st.none(), values))  # noqa: E731
    start, end, severity = one(NS), one(NS), one(st.integers(0, 3))
    asked = {
        "event_type": one(NAMES), "component": one(NAMES), "model_id": one(TEXTS), "request_id": one(st.sampled_from(["", "r", HEX[1]])),
        "decision_chain_id": one(st.sampled_from(["", "c"])), "trace_id": one(st.sampled_from(HEX)),
    }  # fmt: skip
    same(fast.query(start, end, min_severity=severity, **asked), slow.query(start, end, severity, **asked))
    same(fast.query_by_component("a"), slow.query(component="a"))
    same(fast.query_by_model("a"), slow.query(model_id="a"))
    same(fast.query_by_severity(Severity.ERROR), slow.query(min_severity=2))
    for request_id in ("r", *HEX, "unknown"):
        same(fast.reconstruct_decision_chain(request_id), slow.chain(request_id))
    same(fast.reconstruct_decision_chain(chain_id="c"), slow.chain(chain_id="c"))
    for event in [step for step in steps if step != "clear"][:3]:
        same(fast.reconstruct_decision_chain(event_id=event.event_id), slow.chain(event_id=event.event_id))


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_an_event_comes_back_as_it_went_in(event):
    collector, given = TraceCollector(1, require_rationale=()), TraceEvent.from_dict(event.arguments())
    collector.record(given)
    (found,) = collector.query()
    assert found == given and hash(found) == hash(given) and found is not given
    assert found.timestamp == Timestamp(event.timestamp_ns) and found.duration == Duration(event.duration_ns)
    assert found.severity is Severity(event.severity) and dict(found.attributes) == dict(event.attributes)


@pytest.mark.tsan
def test_eight_threads_lose_nothing_below_the_size():
    collector, ids = TraceCollector(), [[] for _ in range(8)]
    threads = [threading.Thread(target=lambda n=n: [ids[n].append(collector.record_now("step", f"{n}", request_id=str(k))) for k in range(1000)]) for n in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen = collector.query()
        assert len({event.event_id for event in seen}) == len(seen) <= 8000
        threads[0].join(0.01)
    for thread in threads:
        thread.join()
    assert len(collector) == 8000 and collector.dropped == 0
    assert len({one for row in ids for one in row}) == 8000 == len({event.event_id for event in collector})
    for n in range(8):
        assert [event.request_id for event in collector.query_by_component(str(n))] == [str(k) for k in range(1000)]


@pytest.mark.tsan
def test_eight_threads_into_a_smaller_lane_leave_the_newest():
    """FORBIDDEN: anything but 4096 events, or of one thread anything but its last ones, in order."""
    collector = TraceCollector(4096)
    threads = [threading.Thread(target=lambda n=n: [collector.record_now("step", f"{n}", request_id=str(k)) for k in range(1000)]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert collector.size() == 4096 == len(collector.query()) and collector.dropped == 8000 - 4096
    for n in range(8):
        kept = [int(event.request_id) for event in collector.query_by_component(str(n))]
        assert kept == list(range(1000 - len(kept), 1000))


def test_a_hundred_more_than_fit_push_out_the_first_hundred():
    collector = TraceCollector(1000)
    for k in range(1100):
        collector.record_now("step", "c", request_id=str(k))
    assert [event.request_id for event in collector.query()] == [str(k) for k in range(100, 1100)]
    assert (collector.size(), collector.dropped, collector.buffer_size) == (1000, 100, 1000)


@pytest.mark.parametrize("size", [0, -1, -(10**30), 2**62, 10**30])
def test_sizes_that_cannot_be(size):
    with pytest.raises(ValueError) as caught:
        TraceCollector(buffer_size=size)
    assert isinstance(caught.value, atf.UsageError)


@pytest.mark.parametrize("size", [1.0, "5", True, None])
def test_sizes_that_are_no_number(size):
    with pytest.raises(InvalidType):
        TraceCollector(size)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (InvalidValue, {"event_type": ""}), (InvalidValue, {"component": ""}), (InvalidType, {"event_type": None}), (InvalidType, {"component": b"c"}),
        (InvalidType, {"attributes": {"a": 1}}), (InvalidType, {"attributes": {1: "a"}}), (InvalidType, {"attributes": [("a", "b")]}),
        (InvalidType, {"rationale": None}), (InvalidType, {"timestamp": 1.0}), (InvalidType, {"timestamp": True}), (InvalidType, {"timestamp": Duration(1)}),
        (InvalidType, {"duration": float("nan")}), (InvalidValue, {"duration": -1}), (InvalidType, {"duration": Timestamp(1)}), (InvalidValue, {"timestamp": -1}),
        (InvalidType, {"severity": 1.0}), (InvalidType, {"severity": None}), (InvalidValue, {"severity": 4}), (InvalidValue, {"severity": "Fatal"}),
        (InvalidValue, {"event_id": "x"}), (InvalidType, {"event_id": 5}), (InvalidValue, {"trace_id": "0" * 32}), (InvalidValue, {"trace_id": "A" * 32}),
        (InvalidValue, {"span_id": "12"}), (InvalidValue, {"timestamp": 1, "timestamp_ns": 1}), (InvalidValue, {"traceparent": "00-x"}),
    ],
)  # fmt: skip
def test_events_that_cannot_be(kind, given):
    with pytest.raises(kind) as caught:
        TraceEvent(**{"event_type": "t", "component": "c", **given})
    assert isinstance(caught.value, atf.UsageError)
    if not given.keys() & {"timestamp", "event_id"}:
        collector = TraceCollector()
        with pytest.raises(kind):
            collector.record_now(**{"event_type": "t", "component": "c", **given})
        assert len(collector) == 0


def test_a_decision_that_needs_a_rationale():
    collector = TraceCollector()
    with pytest.raises(ValueError, match="rationale"):
        collector.record(TraceEvent("scheduling_decision", "gpu"))
    assert len(collector) == 0
    collector.record_now("scheduling_decision", "gpu", "it is free")
    TraceCollector(require_rationale=()).record_now("scheduling_decision", "gpu")
    with pytest.raises(InvalidType):
        collector.record({"event_type": "x"})


def test_an_event_never_changes_and_travels():
    import copy
    import pickle

    attributes = {"a": "b"}
    event = TraceEvent("t", "c", "why", attributes=attributes, severity="Error", event_id=uuid.UUID(int=5))
    attributes["a"] = "changed"
    assert dict(event.attributes) == {"a": "b"} and event.event_id == str(uuid.UUID(int=5))
    assert pickle.loads(pickle.dumps(event)) == event == copy.deepcopy(event) and event in {event}
    assert event.replace(component="d").component == "d" and event.replace() == event != event.replace(timestamp=5)
    with pytest.raises(AttributeError):
        event.component = "x"
    with pytest.raises(TypeError):
        event.attributes["a"] = "x"


def test_the_builder_refuses_what_is_empty():
    made = atf.TraceEventBuilder("route", "gateway").request_id("r").attribute("to", "gpu-2").severity(Severity.Warning).duration(5)
    event, other = made.build(), made.build()
    assert (event.request_id, dict(event.attributes), event.severity, event.duration) == ("r", {"to": "gpu-2"}, Severity.WARNING, Duration(5))
    assert event.event_id != other.event_id
    for empty in (atf.TraceEventBuilder(), atf.TraceEventBuilder().event_type("x"), atf.TraceEventBuilder().component("x")):
        with pytest.raises(ValueError, match="empty"):
            empty.build()


def test_ids_are_uuids_of_their_own():
    found = {uuid.UUID(TraceEvent("t", "c").event_id) for _ in range(1000)}
    assert len(found) == 1000 and {(one.version, one.variant) for one in found} == {(8, uuid.RFC_4122)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own_copy_and_other_ids():
    collector = TraceCollector(3)
    ids = {collector.record_now("before", "parent") for _ in range(2)}
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            kept = {event.event_id for event in collector}
            more = [collector.record_now("after", "child") for _ in range(4)]
            os.write(writing, json.dumps([sorted(kept), more, [event.component for event in collector]]).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    kept, more, components = json.loads(os.read(reading, 65536))
    os.close(reading)
    os.close(writing)
    ours = {collector.record_now("after", "parent") for _ in range(4)}
    assert set(kept) == ids and components == ["child"] * 3
    assert len({*ids, *more, *ours}) == 10 and [event.component for event in collector] == ["parent"] * 3


SCHEMA = {
    "type": "object",
    "required": ["schema", "clock", "events"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": "atf.trace/1"},
        "clock": {
            "type": "object",
            "required": ["kind", "monotonic_anchor_ns", "realtime_anchor_ns", "boot_id"],
            "properties": {"kind": {"const": "boottime"}, "monotonic_anchor_ns": {"type": "integer"}, "realtime_anchor_ns": {"type": "integer"}},
        },
        "events": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["event_id", "event_type", "component", "timestamp_ns", "duration_ns", "model_id", "request_id", "rationale", "severity", "attributes"],
                "properties": {
                    "event_id": {"type": "string", "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"},
                    **{name: {"type": "string", "minLength": 1} for name in ("event_type", "component")},
                    **{name: {"type": "integer", "minimum": 0} for name in ("timestamp_ns", "duration_ns")},
                    **{name: {"type": "string"} for name in ("model_id", "request_id", "rationale", "decision_chain_id", "parent_id")},
                    "severity": {"enum": ["Info", "Warning", "Error", "Critical"]},
                    "attributes": {"type": "object", "additionalProperties": {"type": "string"}},
                    "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                    "span_id": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
                },
            },
        },
    },
}  # fmt: skip


def no_float(text):
    raise AssertionError(f"a float in the file: {text}")


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_the_exported_file(tmp_path_factory, steps):
    fast, slow = pair(steps, 8)
    path = tmp_path_factory.getbasetemp() / "events.json"
    assert fast.export_json(path) == len(slow.events)
    document = json.loads(path.read_bytes(), parse_float=no_float)
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)
    whole = lambda v: v.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if isinstance(v, str) else v  # noqa: E731
    expected = [{k: {whole(a): whole(b) for a, b in v.items()} if k == "attributes" else whole(v) for k, v in e.exported().items()} for e in slow.query()]
    assert document["events"] == expected


def test_an_export_is_whole_or_not_there(tmp_path, monkeypatch):
    collector = TraceCollector()
    collector.record_now("t", "c", duration=2**62)
    path = tmp_path / "events.json"
    path.write_text("before")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space"):
        collector.export_json(path)
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["events.json"]
    monkeypatch.undo()
    with pytest.raises(OutputError):
        collector.export_json(tmp_path / "nowhere" / "events.json")
    collector.export_json(str(path), big_ints="str")
    assert json.loads(path.read_text())["events"][0]["duration_ns"] == str(2**62)
    with pytest.raises(InvalidValue):
        collector.export_json(path, big_ints="float")
