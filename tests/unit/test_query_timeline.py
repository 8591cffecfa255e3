"""trace.timeline against cells made span by span."""

import itertools
import json
import sys
from pathlib import Path

import numpy
import pytest
from query_calls import Caller, timeless
from random_session import NAME, SYMBOLS, write

from atf._core.errors import UsageError
from atf._core.timeline import Lanes
from atf.query.rpc import RpcError

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf

pytestmark = pytest.mark.at_rest
PROBES = 32


def cell_of(rows, overlap):
    if overlap:
        looked, longest = rows[:PROBES], max(rows, key=lambda r: r.span.end - r.span.start)
    else:
        looked = rows[:: max(1, len(rows) // PROBES)][:PROBES]
        longest = max(looked, key=lambda r: r.span.end - r.span.start)
    sums = {}
    for row in looked:
        sums[row.span.function] = sums.get(row.span.function, 0) + row.span.end - row.span.start
    function = max(sums, key=sums.get)  # the first of equal ones
    return {
        "threadId": rows[0].tid,
        "depth": rows[0].span.depth - 1,
        "startNs": min(r.span.start for r in rows),
        "endNs": max(r.span.end for r in rows),
        "functionName": SYMBOLS[function][0],
        "count": len(rows),
        **({"spanId": longest.id} if len(rows) == 1 else {}),
    }


def cells(rows, start, end, cell_ns, max_depth):
    found = []
    for depth, thread in sorted({(r.span.depth - 1, r.thread) for r in rows}):
        lane = [r for r in rows if (r.span.depth - 1, r.thread) == (depth, thread)]
        overlap = any(b.span.end < a.span.end for a, b in itertools.pairwise(lane))
        if depth > max_depth:
            continue
        if reaching := [r for r in lane if r.span.start < start <= r.span.end]:
            found.append(cell_of(reaching, overlap))
        for number in range((end - start) // cell_ns + 1):
            begin = start + number * cell_ns
            mine = [r for r in lane if begin <= r.span.start < min(begin + cell_ns, end + 1)]
            alone = mine[-1:] if len(mine) > 1 and not overlap and mine[-1].span.end - mine[-1].span.start >= cell_ns else []
            for group in (mine[: len(mine) - len(alone)], alone):
                found += [cell_of(group, overlap)] if group else []
    return found


@pytest.mark.parametrize("generators", [True, False])
@pytest.mark.parametrize("width", [1, 7, 100, 10_000])
@pytest.mark.parametrize("seed", range(3))
def test_cells_are_the_oracles(tmp_path, seed, width, generators):
    rows = write(tmp_path, seed, 400, generators=generators)
    call = Caller(tmp_path)
    first, last = (call("trace.info", NAME)[name] for name in ("timeStartNs", "timeEndNs"))
    for start, end in [(first, last), (first + (last - first) // 3, first + (last - first) // 2), (last, last + 5), (first, first)]:
        result = call("trace.timeline", NAME, startNs=start, endNs=end, widthPx=width, maxDepth=4)
        span = end - start + 1
        assert result["widthPx"] == min(width, span) and result["cellNs"] == -(-span // result["widthPx"])
        assert result["cells"] == cells(rows, start, end, result["cellNs"], 4)
        assert result["deepest"] == max(row.span.depth for row in rows) - 1 and "didTruncate" not in result


def test_many_spans_in_a_pixel_are_not_all_looked_at():
    n = 1_000_000
    start = numpy.arange(n, dtype=numpy.uint64) * numpy.uint64(10)
    function = numpy.zeros(n, dtype=numpy.uint32)
    function[:: n // PROBES] = 3
    of = Lanes(start, start + numpy.uint64(9), function, numpy.zeros(n, dtype=numpy.int64))
    drawn = of.draw(0, 0, 10 * n, 10 * n + 1)
    assert {name: values.tolist() for name, values in drawn.items()} == {
        "start_ns": [0],
        "end_ns": [10 * n - 1],
        "count": [n],
        "function": [3],
        "row": [0],
    }


def test_times_that_go_backwards_are_put_in_order():
    start = numpy.array([50, 10, 30, 20, 90], dtype=numpy.uint64)
    of = Lanes(start, start + numpy.uint64(5), numpy.arange(5, dtype=numpy.uint32), numpy.zeros(5, dtype=numpy.int64))
    assert of.draw(0, 0, 99, 10)["row"].tolist() == [1, 3, 2, 0, 4]
    assert of.draw(0, 12, 19, 10)["row"].tolist() == [1]
    assert of.count(0, 0, 99, 10) == 6 and of.count(0, 0, 99, 10, 3) == 4


@pytest.mark.parametrize("took,count", [(9, [2, 1]), (10, [1, 1, 1])])
def test_a_span_as_long_as_a_pixel_stands_alone(took, count):
    start = numpy.array([0, 5, 30], dtype=numpy.uint64)
    end = start + numpy.array([1, took, 1], dtype=numpy.uint64)
    of = Lanes(start, end, numpy.zeros(3, dtype=numpy.uint32), numpy.zeros(3, dtype=numpy.int64))
    assert of.draw(0, 0, 99, 10)["count"].tolist() == count


@pytest.mark.parametrize("args", [(0, 5, 4, 1), (0, 0, 4, 0), (1, 0, 4, 1), (0, 0, 1 << 63, 1), (1 << 63, 0, 1, 1)])
def test_what_cannot_be_drawn_is_refused(args):
    one = numpy.ones(1, dtype=numpy.uint64)
    of = Lanes(one, one, one.astype(numpy.uint32), numpy.zeros(1, dtype=numpy.int64))
    with pytest.raises(UsageError):
        of.draw(*args)


def test_columns_that_do_not_fit_are_refused():
    one, two = numpy.ones(1, dtype=numpy.uint64), numpy.ones(2, dtype=numpy.uint64)
    for columns in ((one, two, one, one), (one, one, one, -numpy.ones(1, dtype=numpy.int64)), (one, one, one, one << numpy.uint64(33))):
        with pytest.raises(UsageError):
            Lanes(columns[0], columns[1], columns[2].astype(numpy.uint32), columns[3])


def test_threads_shapes_and_ids(tmp_path):
    rows = write(tmp_path, 4, 300)
    call = Caller(tmp_path)
    tid = rows[-1].tid
    mine = call("trace.timeline", NAME, threadIds=[tid])["cells"]
    whole = call("trace.timeline", NAME)["cells"]
    assert [cell for cell in whole if cell["threadId"] == tid] and {cell["threadId"] for cell in mine} == {tid}
    columns = call("trace.timeline", NAME, shape="columns")["cells"]
    assert [dict(zip(columns, values)) for values in zip(*columns.values())] == [{"spanId": None, **cell} for cell in whole]
    assert not any("spanId" in cell for cell in call("trace.timeline", NAME, includeSpanIds=False)["cells"])
    roots = call("trace.timeline", NAME, maxDepth=0)["cells"]
    assert {cell["depth"] for cell in roots} == {0} and roots == [cell for cell in whole if cell["depth"] == 0]


@pytest.mark.parametrize("shape", ["rows", "columns"])
@pytest.mark.parametrize("room", [6000, 12_000])
def test_answers_fit_by_getting_coarser(tmp_path, room, shape):
    rows = write(tmp_path, 5, 3000)
    body = Caller(tmp_path, answer_bytes=room).bytes("trace.timeline", NAME, shape=shape)
    result = json.loads(body)
    assert len(body) <= room and result["didTruncate"] and result["widthPx"] < 1000
    counts = result["cells"]["count"] if shape == "columns" else [cell["count"] for cell in result["cells"]]
    assert len(counts) == result["cellCount"]
    if "hiddenLanes" not in result:
        assert sum(counts) == len(rows)


def test_deep_lanes_give_way_before_a_picture_of_few_pixels(tmp_path):
    """40 depths with a call in each of 500 pixels: there is no room for all of them at 50 pixels."""
    events, now, seq = [], 100, tf.NONE
    for _ in range(500):
        events += [tf.event(now + at, 1 << 32 | 1, tf.CALL, at + 1, seq) for at in range(40)]
        events += [tf.event(now + 50 + at, 1 << 32 | 1, tf.RETURN, 40 - at, seq) for at in range(40)]
        now += 100
    tf.write_process(tmp_path / NAME, 7, {0: (7, events, ())}, tf.manifest({}, {1 << 32 | 1: ("f", "a.py", 1)}, {1: "a"}, pid=7))
    result = Caller(tmp_path, answer_bytes=100_000)("trace.timeline", NAME, maxDepth=100, widthPx=500)
    assert result["widthPx"] >= 50 and result["hiddenLanes"] > 0 and result["didTruncate"]
    shown = {cell["depth"] for cell in result["cells"]}
    assert shown == set(range(40 - result["hiddenLanes"])) and len(shown) > 1


def test_the_same_again_and_what_is_refused(tmp_path):
    write(tmp_path, 6)
    call = Caller(tmp_path)
    assert timeless(call("trace.timeline", NAME)) == timeless(Caller(tmp_path)("trace.timeline", NAME))
    with pytest.raises(RpcError) as refused:
        call("trace.timeline", NAME, startNs=10, endNs=9)
    assert refused.value.code == -32602 and refused.value.data["param"] == "endNs"


def test_without_a_span(tmp_path):
    write(tmp_path, 1, 0)
    result = Caller(tmp_path)("trace.timeline", NAME)
    assert result["cells"] == [] and result["deepest"] == -1
