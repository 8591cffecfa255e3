"""Span indexes of event lists, and the same from the oracle, for the tests of the index."""

import sys
from pathlib import Path

import numpy
from hypothesis import strategies as st

from atf._core import spans
from atf._core.index import ThreadIndex
from atf._core.index_build import Builder, source_of
from atf._core.layout import EVENT_DTYPE

sys.path.insert(0, str(Path(__file__).parents[1]))
import oracle

LAST = 2**64 - 1

# Few functions and shallow depths, so that names collide as often as they can; now and then a record that lies, or a long wait.
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 1, 2, 3, 9, 2**31, 2**32, 2**33 + 5]),
        st.integers(1, 4),
        st.just(7),
        st.sampled_from([1, 1, 1, 1, 2, 2, 2, 3, 4, 5, 5, 6, 6, 8, 9, 77]),
        st.integers(0, 4),
        st.just(oracle.NONE),
    ),
    max_size=60,
)


def stamped(steps, now=100):
    rows = []
    for step, *rest in steps:
        now += step
        rows.append((now, *rest))
    return rows


def array(rows):
    return numpy.array(rows, dtype=EVENT_DTYPE)


def end_of(rows):
    return max((row[0] for row in rows), default=0)


def made(rows, end_ns=None, builder=None):
    """(bytes of the index, events, source)."""
    events = rows if isinstance(rows, numpy.ndarray) else array(rows)
    end_ns = end_of(events.tolist()) if end_ns is None else end_ns
    source = source_of(events, 64 + events.nbytes, 1, 0, end_ns)
    builder = builder or Builder()
    size = builder.build(events, source)
    data = builder.to_bytes()
    assert len(data) == size
    return data, events, source


def index_of(rows, end_ns=None):
    return ThreadIndex(*made(rows, end_ns))


def plain(rows, end_ns=None):
    """The oracle's spans as tuples, in the members that `gathered` gives."""
    found, counts = oracle.spans([rows], end_of(rows) if end_ns is None else end_ns)
    place = {id(span): i for i, (_, span) in enumerate(found)}
    return [
        {
            "start_ns": s.start,
            "end_ns": s.end,
            "duration_ns": s.end - s.start,
            "active_ns": s.active,
            "self_ns": max(0, s.active - s.above),
            "function_id": s.function,
            "depth": s.depth,
            "status": spans.STATUS.index(s.status),
            "call_seq": s.call_seq,
            "end_seq": s.end_seq,
            "parent": place[id(s.parent)] if s.parent else -1,
            "children": s.children,
        }
        for _, s in found
    ], counts


def gathered(index, rows=None):
    rows = numpy.arange(index.rows, dtype=numpy.uint32) if rows is None else numpy.array(rows, dtype=numpy.uint32)
    columns = {**index.gather(rows), "children": index.child_counts(rows)}
    numbers = columns.pop("number")
    assert (index.functions["function_id"][numbers] == columns["function_id"]).all()
    return [{name: int(values[i]) for name, values in columns.items()} for i in range(len(rows))]
