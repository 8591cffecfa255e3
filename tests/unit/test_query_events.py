"""events.get against sorted lists, on random sessions."""

import base64
import random
import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import eventcases
import tracefiles as tf
from atf.query import eventlines, eventpages
from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.rpc import Rpc, RpcError
from atf.query.traces import Traces, signature_of

RPC = Rpc(all_methods())
SESSION = "session_20260101_120000"
NAMED = dict.fromkeys(("functionName", "moduleName", "functionId", "indexSeq", "depth", "processId", "spanId"), True)
SEEDS = range(25)


def ask(traces, method="events.get", trace=SESSION, **params):
    """The result as a client decodes it."""
    return msgspec.json.decode(msgspec.json.encode(RPC.call(Context(traces), method, {"traceId": trace, **params})))


def refused(traces, method="events.get", trace=SESSION, **params):
    with pytest.raises(RpcError) as caught:
        ask(traces, method, trace, **params)
    return caught.value


def start_of(rows):
    """The first event of each thread counts, as in trace.info."""
    return min((r.time for r in rows if r.seq == 0), default=0)


@pytest.fixture(params=[(1 << 16, 1 << 16), (4, 0), (4, 12)], ids=["as it is", "small chunks", "small chunks, some kept"])
def chunks(request, monkeypatch):
    """Filtered listings are counted in chunks of 65,536 events, and kept when there are no more: with less, the edges matter."""
    monkeypatch.setattr(eventlines, "CHUNK_EVENTS", request.param[0])
    monkeypatch.setattr(eventpages, "_FEW_EVENTS", request.param[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_pages_are_slices_of_the_sorted_list(tmp_path, seed, chunks):
    rows = eventcases.write(tmp_path, seed)
    traces, rng, start = Traces(tmp_path), random.Random(seed), start_of(rows)
    for _ in range(12):
        filters, order_by, ascending = eventcases.random_filters(rng, rows), rng.choice(("timestamp", "threadId")), rng.random() < 0.6
        want = eventcases.chosen(rows, filters, order_by, ascending)
        offset, limit = rng.choice((0, 0, rng.randrange(len(rows) + 3))), rng.choice((1, 3, 10, 1000))
        got = ask(traces, filters=filters, orderBy=order_by, ascending=ascending, offset=offset, limit=limit, projection=NAMED)
        page = want[offset : offset + limit]
        assert got["events"] == [eventcases.shown(r, start, named=True) for r in page], (filters, order_by, ascending, offset, limit)
        meta = got["metadata"]
        assert (meta["totalCount"], meta["returnedCount"], meta["offset"], meta["limit"]) == (len(want), len(page), offset, limit)
        assert meta["hasMore"] == (offset + len(page) < len(want) and bool(page)) == ("nextCursor" in meta)


def walk(traces, limit, **params):
    """All events by cursor; how many pages."""
    found, pages, cursor = [], 0, {}
    while True:
        got = ask(traces, limit=limit, projection=NAMED, **params, **cursor)
        assert len(got["events"]) <= limit and pages < 2000
        found, pages = found + got["events"], pages + 1
        if not got["metadata"]["hasMore"]:
            assert "nextCursor" not in got["metadata"]
            return found, pages
        cursor = {"cursor": got["metadata"]["nextCursor"]}


@pytest.mark.parametrize("seed", (0, 1, 5, 8, 11))
def test_walking_by_cursor_gives_everything_once(tmp_path, seed, chunks):
    rows = eventcases.write(tmp_path, seed, most=25)
    traces, rng, start = Traces(tmp_path), random.Random(seed), start_of(rows)
    for limit in range(1, 8):
        filters = eventcases.random_filters(rng, rows) if limit % 2 else {}
        for order_by in ("timestamp", "threadId"):
            for ascending in (True, False):
                want = eventcases.chosen(rows, filters, order_by, ascending)
                found, pages = walk(traces, limit, filters=filters, orderBy=order_by, ascending=ascending)
                assert found == [eventcases.shown(r, start, named=True) for r in want]
                assert pages == max(1, -(-len(want) // limit))


def test_defaults_are_the_contracts(tmp_path):
    rows = eventcases.write(tmp_path, 0)
    got = ask(Traces(tmp_path))
    assert [set(e) - {"lost", "lossReason"} for e in got["events"]] == [{"timestampNs", "timestampRelativeNs", "threadId", "eventType"}] * len(rows)
    assert got["metadata"]["limit"] == 1000 and got["metadata"]["offset"] == 0 and not got["metadata"]["hasMore"]
    assert got["metadata"]["executionTimeMs"] > 0
    none = ask(Traces(tmp_path), limit=2, projection={"timestampNs": False, "threadId": False, "event_type": False})
    assert none["events"] == [{}, {}]


def test_columns_are_the_rows(tmp_path):
    rows = eventcases.write(tmp_path, 0)
    traces = Traces(tmp_path)
    by_row = ask(traces, projection=NAMED)["events"]
    by_column = ask(traces, projection=NAMED, shape="columns")["events"]
    assert len(by_row) == len(rows)
    for at, row in enumerate(by_row):
        assert {name: values[at] for name, values in by_column.items() if values[at] is not None} == row
    assert ask(traces, filters={"functionNames": ["nobody"]}, shape="columns")["metadata"]["totalCount"] == 0


def test_cursors_survive_a_restart_and_belong_to_one_question(tmp_path):
    rows = eventcases.write(tmp_path, 0)
    eventcases.write(tmp_path, 0, name="session_20260102_120000")
    question = {"filters": {"timeStartNs": 5}, "limit": 4}
    cursor = ask(Traces(tmp_path), **question)["metadata"]["nextCursor"]
    want = eventcases.chosen(rows, question["filters"])[4:8]
    for shape in ({}, {"projection": NAMED}, {"limit": 4}):
        again = ask(Traces(tmp_path), **{**question, "cursor": cursor, **shape})["events"]
        assert [e["timestampNs"] for e in again] == [r.time for r in want]
    traces = Traces(tmp_path)
    for other in (
        {"filters": {"timeStartNs": 6}},
        {"filters": {"timeStartNs": 5, "threadIds": [100]}},
        {"filters": {}},
        {"orderBy": "threadId"},
        {"ascending": False},
        {"trace": "session_20260102_120000"},
    ):
        error = refused(traces, **{**question, "cursor": cursor, **other})
        assert (error.code, error.data["param"]) == (-32602, "cursor")
    packed = base64.urlsafe_b64decode(cursor + "==")
    for garbage in ("", "x", "é", "AAAA", cursor[:-3], cursor * 2, base64.urlsafe_b64encode(packed[:-1] + b"\xa0").decode().rstrip("=")):
        assert refused(traces, **question, cursor=garbage).code == -32602
    assert refused(traces, **question, cursor=cursor, offset=1).data["param"] == "offset"


def test_a_forged_key_gives_a_page_or_nothing(tmp_path):
    from atf.query.eventpages import KEY_LENGTH
    from atf.query.methods.events_get import EventsGetParams
    from atf.query.pages import make_cursor, query_of
    from atf.query.params import bind

    rows = eventcases.write(tmp_path, 0)
    traces, rng = Traces(tmp_path), random.Random(1)
    for ascending in (True, False):
        for order_by in ("timestamp", "threadId"):
            question = {"orderBy": order_by, "ascending": ascending, "limit": 5}
            query = query_of(bind(EventsGetParams, {"traceId": SESSION, **question}))
            for _ in range(200):
                key = [rng.choice((0, 1, 55, 100, 1010, 2**32, 2**64 - 1)) for _ in range(KEY_LENGTH)]
                assert len(ask(traces, **question, cursor=make_cursor(query, key))["events"]) <= 5
    assert rows


def test_what_cannot_be_asked_says_so(tmp_path):
    eventcases.write(tmp_path, 0)
    traces = Traces(tmp_path)
    cases = {
        "limit": {"limit": 0},
        "filters.eventTypes[1]": {"filters": {"eventTypes": ["gap", "functioncal"]}},
        "filters.timeStartNs": {"filters": {"timeStartNs": -1}},
        "filters.functionName": {"filters": {"functionName": ["x"]}},
        "projection.nme": {"projection": {"nme": True}},
        "orderBy": {"orderBy": "time"},
    }
    for param, wrong in cases.items():
        error = refused(traces, **wrong)
        assert (error.code, error.data["param"]) == (-32602, param), error
    assert refused(traces, filters={"eventTypes": ["functioncal"]}).data["didYouMean"][0] == "functionCall"
    assert refused(traces, limit=10_001).code == -32602
    assert refused(traces, trace="session_none").code == -32000


def test_an_answer_that_is_too_long_goes_on_by_cursor(tmp_path):
    rows = eventcases.write(tmp_path, 0)
    want = eventcases.chosen(rows, {})
    for shape in ("rows", "columns"):
        found, cursor, pages = [], {}, 0
        while True:
            context = Context(Traces(tmp_path), answer_bytes=4096)
            got = msgspec.json.decode(msgspec.json.encode(RPC.call(context, "events.get", {"traceId": SESSION, "shape": shape, **cursor})))
            found += got["events"]["timestampNs"] if shape == "columns" else [e["timestampNs"] for e in got["events"]]
            pages += 1
            if not got["metadata"]["hasMore"]:
                break
            assert got["metadata"]["didTruncate"]
            cursor = {"cursor": got["metadata"]["nextCursor"]}
        assert found == [r.time for r in want]
        assert pages > 2


def test_times_that_go_backwards_neither_crash_nor_keep_a_walk_from_ending(tmp_path, chunks):
    rng = random.Random(4)
    for case in range(15):
        threads = {
            n: (100 + n % 2, [tf.event(rng.choice((0, 3, 5, 9, 2**64 - 1, rng.randrange(50))), 1, 1 + rng.randrange(2)) for _ in range(rng.randrange(12))], ())
            for n in range(rng.randrange(1, 4))
        }
        name = f"session_20260101_12000{case}" if case < 10 else f"session_20260101_1200{case}"
        tf.write_process(tmp_path / name, 7, threads, tf.manifest({}, {}, {}, pid=7))
        traces = Traces(tmp_path)
        total = sum(len(events) for _, events, _ in threads.values())
        for ascending in (True, False):
            for filters in ({}, {"eventTypes": ["functionCall"]}, {"timeStartNs": 4}):
                for order_by in ("timestamp", "threadId"):
                    question = {"filters": filters, "ascending": ascending, "orderBy": order_by}
                    for offset in range(total + 2):
                        assert len(ask(traces, trace=name, offset=offset, limit=3, **question)["events"]) <= 3
                    _, pages = walk(traces, 2, trace=name, **question)
                    assert pages <= 60 * (total + 1)


def test_a_trace_that_grows_says_so_and_cursors_go_on(tmp_path):
    def write(lengths, status):
        threads = {n: (100 + n, [tf.event(1000 + 10 * i + n, 1, 1, tid=100 + n) for i in range(length)], ()) for n, length in lengths.items()}
        said = {n: {"tid": 100 + n} for n in lengths}
        import os

        tf.write_process(tmp_path / SESSION, os.getpid(), threads, tf.manifest(said, {}, {}, pid=os.getpid(), status=status, lost={}), status == "complete")

    write({0: 3, 2: 3}, "recording")
    traces = Traces(tmp_path)
    first = ask(traces, limit=4)
    assert [e["timestampNs"] for e in first["events"]] == [1000, 1002, 1010, 1012]
    assert first["metadata"]["growing"] and first["metadata"]["asOfNs"] == 1022 and first["metadata"]["totalCount"] == 6
    # Thread 1 appears between the two; all go on.
    write({0: 4, 1: 6, 2: 4}, "recording")
    rest = ask(traces, cursor=first["metadata"]["nextCursor"])
    assert [e["timestampNs"] for e in rest["events"]] == [1020, 1021, 1022, 1030, 1031, 1032, 1041, 1051]
    assert rest["metadata"]["asOfNs"] == 1051
    write({0: 4, 1: 6, 2: 5}, "complete")
    done = ask(traces, cursor=first["metadata"]["nextCursor"])
    assert done["events"][-2]["timestampNs"] == 1042 and "growing" not in done["metadata"]


def test_few_listings_are_kept(tmp_path):
    rows = eventcases.write(tmp_path, 0)
    traces = Traces(tmp_path)
    for _ in range(2):
        for n in range(40):
            at_least = 1000 + n
            assert ask(traces, filters={"timeStartNs": at_least})["metadata"]["totalCount"] == sum(r.time >= at_least for r in rows)
    assert len(traces.view(SESSION).derived["events.listings"]) == eventpages._LISTINGS


def test_what_could_not_be_read_is_said(tmp_path):
    rows = eventcases.write(tmp_path, 0)
    broken = max({r.place for r in rows})
    assert "problems" not in ask(Traces(tmp_path))["metadata"]
    (tmp_path / SESSION / f"pid_{broken[0]}" / f"thread_{broken[1]}" / "index.atf").write_bytes(b"no index")
    got = ask(Traces(tmp_path))
    assert got["metadata"]["totalCount"] == sum(r.place != broken for r in rows)
    assert f"thread_{broken[1]}" in got["metadata"]["problems"][0]
    for path in (tmp_path / SESSION).rglob("*.*"):
        path.write_bytes(b"")
    assert refused(Traces(tmp_path)).code == -32004


def test_a_file_that_is_cut_while_it_is_open_is_no_page(tmp_path):
    rows = eventcases.write(tmp_path, 0)
    traces = Traces(tmp_path)
    assert len(ask(traces)["events"]) == len(rows)
    longest = max((tmp_path / SESSION).rglob("index.atf"), key=lambda path: path.stat().st_size)
    view = traces.view(SESSION)
    with open(longest, "r+b") as file:
        file.truncate(200)
    view.signature = signature_of(tmp_path / SESSION)  # as if the cut came after the look at the files
    assert refused(traces).code == -32004
    assert len(ask(traces)["events"]) < len(rows)


def test_filtered_questions_stop_at_the_deadline(tmp_path):
    eventcases.write(tmp_path, 0)
    with pytest.raises(RpcError) as caught:
        RPC.call(Context(Traces(tmp_path), timeout_s=-1.0), "events.get", {"traceId": SESSION, "filters": {"eventTypes": ["gap"]}})
    assert caught.value.code == -32003
