"""events.detail and events.chain, and details in events.get: links both ways, and values of every kind as JSON."""

import datetime
import json
import random
import struct
import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
import tracefiles as tf
from querying import ask, refused, walk

from atf.query.traces import Traces

pack = msgspec.msgpack.encode
SESSION = "session_20260101_120000"
EVERYTHING = dict.fromkeys(("detail", "attributes", "indexSeq", "eventId"), True)


def one_thread(root, events, details, tid=100, **more):
    """A session of one process with one thread, or with several of one tid: `events` is then a list of lists."""
    several = events if events and isinstance(events[0], list) else [events]
    threads = {n: (tid, one, details) for n, one in enumerate(several)}
    symbols = {7: ("order", "", 0), 1 << 32: ("run", "/src/app.py", 3)}
    tf.write_process(root / SESSION, 50, threads, tf.manifest({}, symbols, {1: "app"}, pid=50, lost={}, **more))
    return root


def test_an_event_with_its_detail_by_every_way(tmp_path):
    doctraces.write(tmp_path)
    listed = ask(tmp_path, "events.get", traceId=doctraces.MONDAY, projection=EVERYTHING | {"functionName": True})["events"]
    with_detail = [e for e in listed if "detail" in e]
    assert len(listed) == 150 and len(with_detail) > 25
    for event in with_detail:
        got = ask(tmp_path, "events.detail", traceId=doctraces.MONDAY, eventId=event["eventId"])
        assert got["detail"] == event["detail"] and got["event"]["functionName"] == event["functionName"]
        assert got["detail"].get("attributes") == event.get("attributes")
        place = {"threadId": event["threadId"], "indexSeq": event["indexSeq"]}
        assert ask(tmp_path, "events.detail", traceId=doctraces.MONDAY, **place) == got
        back = {"threadId": event["threadId"], "detailSeq": got["detailSeq"]}
        assert ask(tmp_path, "events.detail", traceId=doctraces.MONDAY, **back) == got
        assert "problem" not in got and "didTruncate" not in got
    assert {ask(tmp_path, "events.detail", traceId=doctraces.MONDAY, eventId=e["eventId"])["detailType"] for e in with_detail} == {
        *("event", "python_call", "python_return", "python_exception")
    }
    bare = next(e for e in listed if "detail" not in e)
    got = ask(tmp_path, "events.detail", traceId=doctraces.MONDAY, eventId=bare["eventId"])
    assert got["detail"] is got["detailType"] is got["detailSeq"] is None


def test_what_cannot_be_asked(tmp_path):
    doctraces.write(tmp_path)
    cases = {
        "eventId": [
            {},
            {"eventId": "421:0", "threadId": 421},
            {"threadId": 421},
            {"threadId": 421, "indexSeq": 0, "detailSeq": 0},
            {"eventId": "421:68"},
            {"eventId": "9:0"},
            {"eventId": "421"},
            {"eventId": "410.9:0"},
            {"eventId": "421:-1"},
            {"eventId": "٤٢١:0"},
        ],
        "indexSeq": [{"threadId": 421, "indexSeq": 68}, {"threadId": 421, "indexSeq": -1}, {"threadId": 421, "indexSeq": 2**32}],
        "detailSeq": [{"threadId": 421, "detailSeq": 4000}],
        "threadId": [{"threadId": 9, "indexSeq": 0}, {"threadId": 421, "indexSeq": 0, "processId": 411}],
    }
    for param, wrongs in cases.items():
        for wrong in wrongs:
            error = refused(tmp_path, "events.detail", traceId=doctraces.MONDAY, **wrong)
            assert (error.code, error.data["param"]) == (-32602, param), wrong
    assert "410, 411, 421, 422" in refused(tmp_path, "events.detail", traceId=doctraces.MONDAY, threadId=9, indexSeq=0).data["hint"]


def test_a_tid_that_was_given_out_twice(tmp_path):
    twice = [[tf.event(10, 1 << 32, 1)], [tf.event(20, 1 << 32, 1), tf.event(30, 1 << 32, 2)]]
    one_thread(tmp_path, twice, ())
    ids = [e["eventId"] for e in ask(tmp_path, "events.get", traceId=SESSION, projection=EVERYTHING)["events"]]
    assert ids == ["100:0", "50.1:0", "50.1:1"]
    times = [ask(tmp_path, "events.detail", traceId=SESSION, eventId=id)["event"]["timestampNs"] for id in (*ids, "50.0:0")]
    assert times == [10, 20, 30, 10]


def test_broken_links_are_said_and_not_followed(tmp_path):
    events = [tf.event(10, 7, 4, detail_seq=1), tf.event(20, 7, 4, detail_seq=0), tf.event(30, 7, 4, detail_seq=9), tf.event(40, 7, 4)]
    details = [tf.detail(1, 19, pack({"attributes": {"requestId": "a"}})), tf.detail(3, 19, pack({"attributes": {"requestId": "a"}})), tf.detail(70, 16, b"")]
    one_thread(tmp_path, events, details)

    def by(**place):
        return ask(tmp_path, "events.detail", traceId=SESSION, threadId=100, **place)

    assert "problem" not in by(indexSeq=1) and by(indexSeq=1)["detail"] == {"attributes": {"requestId": "a"}}
    assert by(indexSeq=0)["detail"] is None and "belongs to event 100:3" in by(indexSeq=0)["problem"]
    assert by(indexSeq=2)["detail"] is None and "detail 9, which is not there" in by(indexSeq=2)["problem"]
    for number, event in ((1, 3), (2, 70)):
        got = by(detailSeq=number)
        assert got["event"] is None and f"event {event}" in got["problem"] and got["detail"] is not None
    assert [e.get("detail") for e in ask(tmp_path, "events.get", traceId=SESSION, projection=EVERYTHING)["events"]][2:] == [None, None]
    assert [e["timestampNs"] for e in ask(tmp_path, "events.chain", traceId=SESSION, requestId="a")["events"]] == [20]


def deep(levels):
    return b"\x91" * levels + b"\x01"


VALUES = {
    "bytes": b"\x00\xff",
    "not a number": float("nan"),
    "too large": [float("inf"), -float("inf")],
    "keys": {1: "one", None: 2, b"\x01": 3, 1.5: 4},
    "number": [2**64 - 1, -(2**63), True, None, 0.1],
    "masked": "***",
    "when": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    "ext": msgspec.msgpack.Ext(5, b"x"),
    "text": "\x00\u2028é😀",
    "object": {"~": "app.Model"},
}


def test_values_of_every_kind_become_json(tmp_path):
    payloads = [(16, pack({"args": {name: value}})) for name, value in VALUES.items()]
    payloads += [(19, b"\xc1"), (19, pack({"attributes": "none"})), (19, pack([1])), (17, deep(400)), (17, deep(7_000)), (77, b"raw"), (16, b"\x81\xa1\xff\x01"), (19, b"")]
    registers = struct.pack("<Q8QQQQHH", 5, *range(8), 1, 2, 3, 2, 0) + b"\xab\xcd"
    payloads += [(3, registers), (4, registers), (3, b"short")]
    events = [tf.event(10 + i, 7, 4, detail_seq=i) for i in range(len(payloads))]
    one_thread(tmp_path, events, [tf.detail(i, *payload) for i, payload in enumerate(payloads)])
    listed = ask(tmp_path, "events.get", traceId=SESSION, projection=EVERYTHING)["events"]
    assert len(listed) == len(events)
    for event in listed:
        got = ask(tmp_path, "events.detail", traceId=SESSION, eventId=event["eventId"])
        assert got["detail"] == event["detail"]
        json.dumps(got, allow_nan=False)
    args = {name: value for event in listed[: len(VALUES)] for name, value in event["detail"]["args"].items()}
    assert args["bytes"] == "00ff" and args["not a number"] == "nan" and args["too large"] == ["inf", "-inf"] and args["masked"] == "***"
    assert args["keys"] == {"1": "one", "None": 2, "b'\\x01'": 3, "1.5": 4} and args["number"] == [2**64 - 1, -(2**63), True, None, 0.1]
    assert args["text"] == VALUES["text"] and args["object"] == {"~": "app.Model"}
    assert args["ext"] == {"ext": 5, "data": "78"} and args["when"].startswith("2026-01-01")
    assert listed[len(VALUES)]["detail"] == {"undecodable": "c1"} and "attributes" not in listed[len(VALUES) + 1]
    assert listed[-3]["detail"]["registers"]["rdi"] == 0 and listed[-3]["detail"]["stack"] == "abcd"


def test_long_details_are_shortened(tmp_path):
    long = {"args": {"text": "x" * 300_000, "list": list(range(50_000)), "map": {str(i): "y" * 50 for i in range(5000)}}}
    one_thread(tmp_path, [tf.event(10, 7, 1, detail_seq=0), tf.event(11, 7, 2)], [tf.detail(0, 16, pack(long))])
    got = ask(tmp_path, "events.detail", traceId=SESSION, eventId="100:0")
    assert got["didTruncate"] is True
    said = got["detail"]["args"]
    assert said["text"].endswith("x…") and said["list"][-1] == {"…": 50_000} and said["list"][:3] == [0, 1, 2] and said["map"]["…"] == 5000
    listed = ask(tmp_path, "events.get", traceId=SESSION, projection=EVERYTHING)["events"]
    assert len(listed) == 2 and len(json.dumps(listed[0])) < 20_000
    small = ask(tmp_path, "events.detail", answer_bytes=9000, traceId=SESSION, eventId="100:0")
    assert small["event"]["indexSeq"] == 0 and small["didTruncate"] is True


def test_names_that_are_no_utf8(tmp_path):
    symbols = {1 << 32: ("caf\udce9", "/src/\udcff.py", 3)}
    tf.write_process(tmp_path / SESSION, 50, {0: (100, [tf.event(1, 1 << 32, 1)], ())}, tf.manifest({0: {"name": "\ud800"}}, symbols, {1: "app\udcfe"}, pid=50, argv=["\udce9.py"]))
    shown = dict.fromkeys(("functionName", "moduleName", "file", "threadName"), True)
    (event,) = ask(tmp_path, "events.get", traceId=SESSION, projection=shown)["events"]
    assert (event["functionName"], event["moduleName"], event["file"], event["threadName"]) == ("caf�", "app�", "/src/�.py", "�")
    assert ask(tmp_path, "traces.list")["traces"][0]["processes"][0]["command"] == "'�.py'"


# ---------------------------------------------------------------- chains


def random_requests(root, seed):
    """A session with request ids here and there; {request id: [(time, pid, tid, seq)] in order}."""
    rng, truth = random.Random(seed), {}
    for pid in (50, 51):
        threads = {}
        for number in range(3):
            tid, now, events, details = pid * 10 + number, 1000, [], []
            for seq in range(60):
                now += rng.choice((0, 0, 1, 5))
                id, name = rng.choice((1, "1", "a", "ü", 2**60, True, None, 1.0)), rng.choice(("request_id", "requestId", "request", "id"))
                roll = rng.random()
                if roll < 0.5:
                    said = {"name": "order", "attributes": {name: id, "x": "request_id"}}
                    details.append(tf.detail(seq, 19, pack(said)))
                    if name in ("request_id", "requestId") and not isinstance(id, (bool, float, type(None))):
                        truth.setdefault(str(id), []).append((now, pid, tid, seq))
                elif roll < 0.6:
                    details.append(tf.detail(seq, 16, pack({"args": {"request_id": "a"}})))
                elif roll < 0.65:
                    details.append(tf.detail(seq, 19, b"\x81\xa9attributes request_id"))
                events.append(tf.event(now, 7, rng.choice((1, 4)), 1, len(details) - 1 if roll < 0.65 else tf.NONE, tid))
            threads[number] = (tid, events, details)
        tf.write_process(root / SESSION, pid, threads, tf.manifest({}, {7: ("order", "", 0)}, {}, pid=pid))
    return {key: sorted(found) for key, found in truth.items()}


@pytest.mark.parametrize("seed", range(4))
def test_chains_are_what_a_loop_finds(tmp_path, seed):
    truth, traces = random_requests(tmp_path, seed), Traces(tmp_path)
    assert set(truth) == {"1", "a", "ü", str(2**60)}
    for id, want in truth.items():
        got = ask(traces, "events.chain", traceId=SESSION, requestId=id)
        assert [(e["timestampNs"], e["processId"], e["threadId"], int(e["eventId"].split(":")[1])) for e in got["events"]] == want
        assert got["metadata"]["totalCount"] == len(want) and got["requestIds"] == 4 and got["requestId"] == id
        for e in got["events"]:
            assert ("spanId" in e) == (e["eventType"] == "FunctionCall") and e["functionName"] == "order"
            assert id in (str(e["attributes"].get("request_id")), str(e["attributes"].get("requestId")))
        for limit in (1, 2, 7):
            assert walk(traces, "events.chain", "events", traceId=SESSION, requestId=id, limit=limit) == got["events"]
        assert ask(traces, "events.chain", traceId=SESSION, requestId=id, offset=2, limit=3)["events"] == got["events"][2:5]
        columns = ask(traces, "events.chain", traceId=SESSION, requestId=id, shape="columns")["events"]
        assert columns["timestampNs"] == [t for t, *_ in want]
    assert ask(traces, "events.chain", traceId=SESSION, requestId=1)["metadata"]["totalCount"] == len(truth["1"])
    none = ask(traces, "events.chain", traceId=SESSION, requestId="nobody")
    assert none["events"] == [] and none["metadata"]["totalCount"] == 0 and not none["metadata"]["hasMore"]
    cursor = ask(traces, "events.chain", traceId=SESSION, requestId="a", limit=1)["metadata"]["nextCursor"]
    assert refused(traces, "events.chain", traceId=SESSION, requestId="ü", cursor=cursor).code == -32602
    assert refused(traces, "events.chain", traceId=SESSION, requestId="a", cursor=cursor, offset=3).code == -32602
    assert refused(traces, "events.chain", traceId=SESSION, requestId=None).code == -32602


def test_chains_of_a_trace_of_one_process_and_without_details(tmp_path):
    truth = random_requests(tmp_path, 1)
    got = ask(tmp_path, "events.chain", traceId=f"{SESSION}/pid_51", requestId="a")
    assert [e["timestampNs"] for e in got["events"]] == [t for t, pid, *_ in truth["a"] if pid == 51]
    for path in tmp_path.rglob("detail.atf"):
        path.write_bytes(b"nothing that can be read")
    assert ask(tmp_path, "events.chain", traceId=SESSION, requestId="a")["requestIds"] == 0
