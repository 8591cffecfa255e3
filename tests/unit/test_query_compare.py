"""trace.compare: planted changes are found, nothing is made up, and sums are the oracle's."""

import collections
import json
import math
import random
import sys
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from query_calls import Caller
from random_session import NAME, write

from atf.query.comparison import CONFIDENCE, Drift, Times, judge
from atf.query.examples import sorted_by_group
from atf.query.rpc import RpcError

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, RETURN

pytestmark = pytest.mark.at_rest
OTHER = "session_20260102_000000"
EVERYTHING = {"confidence": "noise", "minChange": 0, "limit": 10_000}


def rank(values, percent):
    return sorted(values)[math.ceil(percent / 100 * len(values)) - 1]


def by_group(rows, by):
    found = collections.defaultdict(list)
    for row in rows:
        found[row.names() if by == "paths" else row.names()[-1]].append(row)
    return found


def total(rows, by):
    def inside(row):
        above, function = row.span.parent, row.span.function
        while above is not None and above.function != function:
            above = above.parent
        return above is not None

    return sum(row.span.active for row in rows if by == "paths" or not inside(row))


def check_measures(said, rows, by, time):
    assert said["count"] == len(rows) and said["selfNs"] == sum(row.self_ns for row in rows)
    assert said["totalNs"] == total(rows, by)
    times = [time(row) for row in rows]
    assert [said[f"p{p}Ns"] for p in (25, 50, 75)] == [rank(times, p) for p in (25, 50, 75)]
    assert said["meanNs"] == sum(times) // len(times)
    assert said["slowestSpanId"] == max(rows, key=time).id
    assert said["typicalSpanId"] == next(row.id for row in rows if time(row) == said["p50Ns"])


@pytest.mark.parametrize("metric", ["self", "total"])
@pytest.mark.parametrize("by", ["functions", "paths"])
@pytest.mark.parametrize("seed", range(3))
def test_changes_are_the_oracles(tmp_path, seed, by, metric):
    before, after = write(tmp_path, seed), write(tmp_path, seed + 100, 100, name=OTHER)
    result = Caller(tmp_path)("trace.compare", NAME, other=OTHER, by=by, metric=metric, **EVERYTHING)
    one, other = by_group(before, by), by_group(after, by)
    time = (lambda row: row.self_ns) if metric == "self" else (lambda row: row.span.active)
    gone, new = one.keys() - other.keys(), other.keys() - one.keys()
    assert result["counts"]["appeared"] == len(new) and result["counts"]["vanished"] == len(gone)
    for change in result["changes"]:
        own = f"{change['moduleName']}.{change['functionName']}" if change["moduleName"] else change["functionName"]
        group = tuple(change["path"]) if by == "paths" else own
        kinds = set(change["changes"])
        for side, rows in (("before", one.pop(group, [])), ("after", other.pop(group, []))):
            assert (change[side] is None) == (not rows)
            if rows:
                check_measures(change[side], rows, by, time)
        assert (change["before"] is None, change["after"] is None) == ("appeared" in kinds, "vanished" in kinds)
        if change["before"] and change["after"]:
            assert change["countDelta"] == change["after"]["count"] - change["before"]["count"]
            assert ("count" in kinds) == (change["countDelta"] != 0)
        elif by == "paths":
            assert change["pathsBelow"] == sum(path[: len(group)] == group for path in gone | new) - 1
            assert group[:-1] not in gone | new  # only the uppermost is told
    tier = {"certain": 0, "likely": 0, "possible": 1, "noise": 2}
    if by == "functions":
        moved = [(tier[c["confidence"]], -abs(c["selfDeltaNs" if metric == "self" else "totalDeltaNs"])) for c in result["changes"]]
        assert moved == sorted(moved) and len(moved) > 3
    for group in one.keys() & other.keys():  # nothing was said of them, so they are the same
        assert len(one[group]) == len(other[group]) and sum(map(time, one[group])) == sum(map(time, other[group]))
    if by == "functions":
        assert not one.keys() ^ other.keys()


@pytest.mark.parametrize("by", ["functions", "paths"])
def test_a_trace_is_equal_to_itself(tmp_path, by):
    write(tmp_path, 3)
    result = Caller(tmp_path)("trace.compare", NAME, other=NAME, by=by, **EVERYTHING)
    assert result["changes"] == [] and result["metadata"]["totalCount"] == 0
    assert {k: n for k, n in result["counts"].items() if n} == {"same": result["counts"]["same"]}
    assert all(pair["beforeThreadId"] == pair["afterThreadId"] for pair in result["threads"])


NAMES = {f: (name, "/src/app.py", f) for f, name in enumerate(("main", *(f"work{n}" for n in range(12)), "added"), 1)}
ADDED = len(NAMES)


def program(root, name, seed, slower=None, added=False, drift=1.0, calls=200):
    """main calls twelve functions in turn; each takes about 10 µs per its number, give or take a tenth."""
    choose, now, events = random.Random(seed), 1000, []

    def leaf(function, depth, us):
        nonlocal now
        events.append(tf.event(now, function, CALL, depth))
        now += int(us * 1000 * drift * choose.gauss(1, 0.1))
        events.append(tf.event(now, function, RETURN, depth))
        now += 100

    events.append(tf.event(now, 1, CALL))
    for _ in range(calls):
        for function in range(2, 14):
            leaf(function, 2, 10 * function * (slower or {}).get(function, 1))
        if added:
            leaf(ADDED, 2, 1)
    events.append(tf.event(now, 1, RETURN))
    used = {f | 1 << 32: n for f, n in NAMES.items() if added or f != ADDED}
    events = [event[:8] + (int.from_bytes(event[8:16], "little") | 1 << 32).to_bytes(8, "little") + event[16:] for event in events]
    content = tf.manifest({0: {"tid": seed, "name": "MainThread"}}, used, {1: "app"}, pid=seed, argv=["python", "app.py"])
    tf.write_process(Path(root, name), seed, {0: (seed, events, ())}, content)


def test_two_runs_of_one_program_show_nothing(tmp_path):
    program(tmp_path, NAME, 1)
    program(tmp_path, OTHER, 2)
    call = Caller(tmp_path)
    result = call("trace.compare", NAME, other=OTHER, minChange=0)
    assert result["changes"] == [] and result["counts"]["time"] == 0
    assert 0.9 < result["drift"]["ratio"] < 1.1 and result["drift"]["functions"] == 12
    assert call("trace.compare", NAME, other=OTHER, by="paths")["changes"] == []
    assert call("trace.compare", NAME, other=OTHER, **EVERYTHING)["changes"] != []


def test_planted_changes_are_found(tmp_path):
    program(tmp_path, NAME, 1)
    program(tmp_path, OTHER, 2, slower={7: 1.5}, added=True)
    call = Caller(tmp_path)
    for by in ("functions", "paths"):
        changes = call("trace.compare", NAME, other=OTHER, by=by)["changes"]
        said = {change["functionName"]: change for change in changes if change["functionName"] != "main"}
        assert said.keys() == {"work5", "added"}
        assert said["work5"]["changes"] == ["time"] and said["work5"]["confidence"] == "likely"
        assert 1.4 < said["work5"]["timeRatio"] < 1.6 and said["work5"]["medianShift"] > 3 < said["work5"]["againstDrift"]
        assert said["added"]["changes"] == ["appeared"] and said["added"]["after"]["count"] == 200
        back = call("trace.compare", OTHER, other=NAME, by=by)["changes"]
        kinds = {change["functionName"]: change["changes"] for change in back}
        assert kinds["added"] == ["vanished"] and kinds["work5"] == ["time"]
    assert said["added"]["path"] == ["app.main", "app.added"]
    ranked = call("trace.compare", NAME, other=OTHER, changes=["time"], confidence="likely")["changes"]
    assert [change["functionName"] for change in ranked] == ["work5"]


def test_a_machine_that_is_slower_makes_no_function_slower(tmp_path):
    program(tmp_path, NAME, 1)
    program(tmp_path, OTHER, 2, drift=1.3)
    result = Caller(tmp_path)("trace.compare", NAME, other=OTHER, confidence="likely")
    assert result["changes"] == [] and 1.25 < result["drift"]["ratio"] < 1.35


def test_evidence_can_be_looked_up(tmp_path):
    program(tmp_path, NAME, 1)
    program(tmp_path, OTHER, 2, slower={7: 2})
    call = Caller(tmp_path)
    (change,) = [one for one in call("trace.compare", NAME, other=OTHER)["changes"] if one["functionName"] == "work5"]
    for trace, side in ((NAME, change["before"]), (OTHER, change["after"])):
        spans = call("spans.list", trace, filters={"functionNames": ["work5"]}, orderBy="duration", limit=1)["spans"]
        assert spans[0]["spanId"] == side["slowestSpanId"]
        assert (
            call("spans.path", trace, spanId=side["typicalSpanId"], projection={"selfTimeNs": True})["spans"][-1]["selfTimeNs"]
            == side["p50Ns"]
        )


def test_pages_and_bounds(tmp_path):
    write(tmp_path, 5, 600)
    write(tmp_path, 6, 600, name=OTHER)
    call = Caller(tmp_path)
    ask = {"other": OTHER, "by": "paths", "confidence": "noise", "minChange": 0}
    whole = call("trace.compare", NAME, **ask, limit=10_000)["changes"]
    found, cursor = [], None
    while True:
        page = call("trace.compare", NAME, **ask, limit=7, **({"cursor": cursor} if cursor else {}))
        found += page["changes"]
        if not page["metadata"]["hasMore"]:
            break
        cursor = page["metadata"]["nextCursor"]
    assert found == whole and len(whole) > 30
    with pytest.raises(RpcError) as refused:
        call("trace.compare", NAME, other=OTHER, by="functions", cursor=cursor)
    assert refused.value.code == -32602
    small = Caller(tmp_path, answer_bytes=40_000)
    body = small.bytes("trace.compare", NAME, **ask, limit=10_000)
    assert len(body) <= 40_000 and json.loads(body)["metadata"]["didTruncate"]
    assert json.loads(body)["changes"] == whole[: json.loads(body)["metadata"]["returnedCount"]]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.integers(0, 9), st.integers(0, 2**64 - 1))), min_size=1))
def test_values_sorted_by_group(pairs):
    group, values = numpy.array([g for g, _ in pairs]), numpy.array([v for _, v in pairs], dtype=numpy.uint64)
    assert sorted_by_group(group, values).tolist() == [value for _, value in sorted(pairs)]


def of_calls(count, middle, deviation):
    quartiles = numpy.array([[middle - deviation, middle, middle + deviation]], dtype=numpy.uint64)
    return Times(numpy.array([count], dtype=numpy.uint64), quartiles, numpy.array([float(middle)]), numpy.array([float(deviation)]))


def test_what_is_not_known_is_not_judged():
    unknown, known, wide = Drift(0.0, 0.0, 3), Drift(0.0, 0.1, 20), Drift(0.0, 0.5, 20)
    few = judge(of_calls(2, 50, 10), of_calls(2, 100, 10), unknown)
    assert all(math.isnan(value[0]) for value in (few.median_shift, few.mean_shift, few.against_drift)) and few.confidence[0] == 1

    def confidence(count, drift, deviation=10):
        return CONFIDENCE[judge(of_calls(count, 50, deviation), of_calls(count, 100, deviation), drift).confidence[0]]

    assert confidence(10, unknown) == "possible" and confidence(10, known) == "likely" and confidence(2, known) == "possible"
    assert confidence(10, wide) == confidence(2, wide) == "noise"  # all functions moved so far
    assert confidence(10, known, 50) == confidence(10, unknown, 50) == "noise"  # calls of it differ so much


def test_a_part_of_the_calls_that_got_slow_is_seen_though_the_median_stays():
    before = Times(numpy.array([200]), numpy.array([[45, 50, 55]]), numpy.array([50.0]), numpy.array([7.0]))
    after = Times(numpy.array([200]), numpy.array([[45, 50, 56]]), numpy.array([95.0]), numpy.array([140.0]))
    verdict = judge(before, after, Drift(0.0, 0.1, 20))
    assert verdict.confidence[0] == 2 and verdict.median_shift[0] == 0 and verdict.mean_shift[0] > 3
    one = Times(numpy.array([200]), numpy.array([[45, 50, 56]]), numpy.array([95.0]), numpy.array([640.0]))  # one call only
    assert judge(before, one, Drift(0.0, 0.1, 20)).confidence[0] == 0
