"""Decision events in recordings: the same as in the collector, across processes, and after a kill."""

import json
import os
import signal
import sys

import pytest

import atf
from atf.collector import decisions

PROGRAM = """
    import atf, json, os, sys, time
    collector = atf.TraceCollector(50)
    def decide(where, request, n):
        for k in range(n):
            collector.record_now("route", where, f"because of {k}", request_id=request, model_id="m", severity="Warning", duration=k,
                                 attributes={"to": f"gpu-{k}", "é": "\\ud83d\\ude00"}, decision_chain_id="c")
    decide("parent", "r-1", 40)
    decide("parent", "r-2", 5)
    child = os.fork()
    decide("child" if not child else "parent", "r-1", 45)
    print(json.dumps([event.to_dict() for event in collector]), flush=True)
    time.sleep(0 if sys.argv[1:] else 60)
    if child and sys.argv[1:]:
        os.waitpid(child, 0)
"""


def said(out):
    """What both processes kept, parent and child in any order."""
    return {one["event_id"]: one for line in out for one in json.loads(line)}


def chain(bench, path, request_id):
    answer = bench.atf("query", str(path), "events.chain", json.dumps({"requestId": request_id, "limit": 1000}))
    assert answer.status == 0, answer.err
    found = json.loads(answer.out)
    return found.get("result", found)["events"]


def check(bench, path, out):
    kept = said(out)
    assert len(kept) == 5 + 90  # a lane has 50: of each process its last 45, and the five before the fork
    with atf.open(path) as trace:
        found = {event.event_id: event for event in decisions(trace)}
        assert len(found) == 40 + 5 + 90
        assert {key: found[key].to_dict() for key in kept} == kept
        times = {event.detail["attributes"]["event_id"]: event.timestamp_ns for event in trace.events(function="decision:route")}
        assert all(0 <= times[key] - event.timestamp_ns < 50_000_000 for key, event in found.items()), "another clock"
        mine = decisions(trace, "r-1")
        assert len(mine) == 130 and [e.timestamp_ns for e in mine] == sorted(e.timestamp_ns for e in mine)
        assert {event.component for event in mine} == {"parent", "child"}
    for request_id, count in (("r-1", 130), ("r-2", 5), ("r-3", 0)):
        rows = chain(bench, path, request_id)
        assert len(rows) == count
        assert {row["attributes"]["event_id"] for row in rows} == {key for key, event in found.items() if event.request_id == request_id}


def test_the_same_events_are_in_the_recording(bench):
    ran = bench.python(PROGRAM, "end")
    assert ran.status == 0, ran.err
    check(bench, ran.path, ran.out.splitlines())


def test_chains_are_whole_after_a_kill(bench):
    """FORBIDDEN: a decision that a process had made before it was killed, and that is not in the trace."""
    running = bench.begin(PROGRAM)
    out = [running.stdout.readline(), running.stdout.readline()]
    for directory in bench.runtime.glob("atf/*"):
        for announced in directory.glob("*.process"):
            os.kill(int(announced.name.partition("-")[0]), signal.SIGKILL)
    running.communicate(timeout=60)
    (path,) = bench.root.glob("session_*")
    check(bench, path, out)


def test_what_a_detail_has_no_room_for_is_cut_in_the_trace_alone(tmp_path):
    collector, long = atf.TraceCollector(), "é" * 20_000
    with atf.record(tmp_path, python=False) as recording:
        collector.record_now("long", "c", long, request_id="r", attributes={str(k): "x" * 500 for k in range(200)})
        collector.record_now("wide", "c", request_id="r", attributes={f"{k}" * 200: "é" * 200 for k in range(16)})
        collector.record_now("odd", "c", "a \udc80", request_id="r\ud800", attributes={"\udfff": "\ud83d"})
        collector.record_now("x" * 300, "c" * 300, request_id="r")
    kept = collector.query()
    assert kept[0].rationale == long and len(kept[0].attributes) == 200 and len(kept[1].attributes) == 16 and kept[2].request_id == "r\ud800"
    with atf.open(recording.path) as trace:
        found = decisions(trace)
        assert [event.event_id for event in found] == [event.event_id for event in kept]
        assert [event.request_id for event in found] == ["r", "r", "r\ufffd", "r"]
        assert found[0].rationale.endswith("é…") and found[0].attributes["…"] == "200"
        assert found[2].rationale == "a \ufffd" and dict(found[2].attributes) == {"\ufffd": "\ufffd"}
        assert found[3] == kept[3] and trace.check() == []


def test_recordings_one_after_the_other_and_none(tmp_path):
    collector = atf.TraceCollector()
    for n in range(3):
        with atf.record(tmp_path / str(n), python=False) as recording:
            collector.record_now("step", "c", request_id=str(n))
        collector.record_now("between", "c")
        with atf.open(recording.path) as trace:
            assert [event.request_id for event in decisions(trace)] == [str(n)]
    assert len(collector) == 6


@pytest.mark.parametrize("given", ["environment", "argument"])
def test_a_trace_that_began_elsewhere(monkeypatch, given):
    header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    monkeypatch.delenv("TRACEPARENT", raising=False)
    if given == "environment":
        monkeypatch.setenv("TRACEPARENT", header)
        collector = atf.TraceCollector()
    else:
        collector = atf.TraceCollector(traceparent=header)
    assert str(collector.traceparent) == header
    collector.record_now("a", "c")
    unmarked = atf.TraceEvent("b", "c", "why", request_id="r", model_id="m", duration=5, severity="Error", attributes={"a": "b"}, parent_id="p", timestamp=2**62)
    collector.record(unmarked)
    collector.record_now("other", "c", traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-00")
    own, other, by_request = collector.query()
    assert by_request == unmarked.replace(trace_id=by_request.trace_id, span_id=by_request.span_id) != unmarked
    assert (own.trace_id, own.span_id) == (by_request.trace_id, by_request.span_id) == (header[3:35], header[36:52])
    assert (other.trace_id, other.span_id) == ("1" * 32, "2" * 16)
    assert collector.reconstruct_decision_chain(header[3:35]) == collector.reconstruct_decision_chain(trace_id=header[3:35]) == [own, by_request]
    assert collector.reconstruct_decision_chain(event_id=own.event_id) == [own, by_request]
    assert collector.reconstruct_decision_chain(event_id=by_request.event_id) == [by_request]


def test_a_program_that_replaces_itself_has_other_ids(bench):
    program = """
        import atf, os, sys
        print(os.getpid(), atf.TraceEvent("t", "c").event_id, flush=True)
        if not sys.argv[1:]:
            os.execv(sys.executable, [sys.executable, __file__, "again"])
    """
    first, second = (line.split() for line in bench.plain(sys.executable, bench.write(program)).out.splitlines())
    assert first[0] == second[0] and first[1] != second[1]


BAD = ["", "x", "00-" + "0" * 32 + "-" + "2" * 16 + "-00", "00-" + "1" * 32 + "-" + "0" * 16 + "-00", "ff-" + "1" * 32 + "-" + "2" * 16 + "-00"]
BAD += ["00-" + "A" * 32 + "-" + "2" * 16 + "-00", "00-" + "1" * 32 + "-" + "2" * 16 + "-00-more", "cc-" + "1" * 32 + "-" + "2" * 16 + "-00more"]


@pytest.mark.parametrize("header", BAD)
def test_a_traceparent_without_a_trace(monkeypatch, header):
    """From the environment it is ignored, as the specification asks; given by hand it is an error."""
    monkeypatch.setenv("TRACEPARENT", header)
    assert atf.TraceCollector().traceparent is None
    with pytest.raises(atf.UsageError):
        atf.TraceEvent("t", "c", traceparent=header)


def test_a_later_version_of_traceparent():
    event = atf.TraceEvent("t", "c", traceparent="cc-" + "1" * 32 + "-" + "2" * 16 + "-00-what-comes-then")
    assert (event.trace_id, event.span_id) == ("1" * 32, "2" * 16)


def test_a_chain_has_one_name():
    collector = atf.TraceCollector()
    for given in ({}, {"chain_id": "c", "trace_id": "t"}):
        with pytest.raises(atf.UsageError, match="one of"):
            collector.reconstruct_decision_chain(**given)
    with pytest.raises(atf.UsageError, match="one of"):
        collector.reconstruct_decision_chain("r", event_id="e")
    assert collector.reconstruct_decision_chain("nobody") == [] == collector.reconstruct_decision_chain(event_id="0" * 32)
    collector.record_now("only", "c", request_id="r")
    assert len(collector.reconstruct_decision_chain("r")) == 1


def test_the_example_of_the_documentation(bench):
    from live import ROOT

    text = (ROOT / "docs/collector.md").read_text()
    program, printed = text.split("```python\n", 1)[1].split("```\n```\n", 1)
    ran = bench.python(program)
    assert ran.status == 0, ran.err
    digits = str.maketrans("123456789", "000000000")
    seconds = [line.partition(" s ") for line in ran.out.splitlines()]
    expected = [line.partition(" s ") for line in printed.partition("```")[0].splitlines()]
    assert [(a.translate(digits) if more else a, more) for a, _, more in seconds] == [(a.translate(digits) if more else a, more) for a, _, more in expected]
    assert len(chain(bench, bench.root, "r-17")) == 3
    with atf.open(ran.path) as trace:
        assert [event.rationale for event in decisions(trace, "r-17")][1:] == ["shortest queue", "asked for by r-17"]
