"""Call paths as numbers, against chains of names made one by one."""

import sys
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atf._core.errors import UsageError
from atf._core.paths import Paths, roll_up

sys.path.insert(0, str(Path(__file__).parents[1]))

pytestmark = pytest.mark.at_rest

# (how far back the caller stands, 0: there is none; key)
ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=300)
LABEL = numpy.array([0, 1, 2, 1], dtype=numpy.uint32)  # two keys of one label


def columns(rows):
    parent = numpy.array([-1 if not back or back > at else at - back for at, (back, _) in enumerate(rows)], dtype=numpy.int64)
    return parent, numpy.array([key for _, key in rows], dtype=numpy.uint32)


def chain(paths, number):
    parent, label = paths.columns()
    found = []
    while number:
        assert parent[number] < number
        found.append(int(label[number]))
        number = int(parent[number])
    return tuple(found[::-1])


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 400))
def test_paths_are_chains_of_labels(rows, step):
    parent, key = columns(rows)
    paths, into = Paths(), numpy.full(len(rows), 0xFFFFFFFF, dtype=numpy.uint32)
    for first in range(0, len(rows), step):
        paths.add(parent[first : first + step], key[first : first + step], LABEL, into, first)
    want = []
    for at in range(len(rows)):
        want.append((want[parent[at]] if parent[at] >= 0 else ()) + (int(LABEL[key[at]]),))
    assert [chain(paths, int(number)) for number in into] == want
    assert len(paths) == len(set(want)) + 1
    assert list(dict.fromkeys(into.tolist())) == sorted(set(into.tolist()))  # numbered as they are first met


def test_many_paths_and_a_deep_one():
    n = 100_000
    parent = numpy.arange(-1, n - 1, dtype=numpy.int64)
    into = numpy.empty(n, dtype=numpy.uint32)
    paths = Paths()
    paths.add(parent, numpy.zeros(n, dtype=numpy.uint32), LABEL, into)
    assert into.tolist() == list(range(1, n + 1)) and len(paths) == n + 1
    paths.add(parent, numpy.zeros(n, dtype=numpy.uint32), LABEL, into)
    assert len(paths) == n + 1
    paths.add(parent[:1], numpy.zeros(1, dtype=numpy.uint32), LABEL, into, root=n)
    assert paths.columns()[0][into[0]] == n


@settings(max_examples=100, deadline=None)
@given(ROWS, st.booleans())
def test_roll_up(rows, largest):
    parent, key = columns(rows)
    paths, into = Paths(), numpy.empty(len(rows), dtype=numpy.uint32)
    paths.add(parent, key, LABEL, into)
    above, _ = paths.columns()
    own = numpy.arange(len(paths), dtype=numpy.uint64) * numpy.uint64(7) % numpy.uint64(11)
    got = own.copy()
    roll_up(above, got, largest)
    for number in range(len(paths)):
        below = [int(own[n]) for n in range(len(paths)) if chain(paths, n)[: len(chain(paths, number))] == chain(paths, number)]
        assert got[number] == (max(below) if largest else sum(below))


@pytest.mark.parametrize(
    "parent,key,more",
    [
        ([0], [0], {}),
        ([-1, 1], [0, 0], {}),
        ([-1, -2], [0, 0], {}),
        ([-1], [4], {}),
        ([-1, 0], [0], {}),
        ([-1], [0], {"root": 1}),
        ([-1], [0], {"first": 2}),
        ([0], [0], {"first": 1}),  # what stands before has no path
        ([0], [0], {"first": 1 << 62}),
    ],
)
def test_rows_that_cannot_be_are_refused(parent, key, more):
    into = numpy.full(2, 0xFFFFFFFF, dtype=numpy.uint32)
    with pytest.raises((UsageError, OverflowError)):
        Paths().add(numpy.array(parent, dtype=numpy.int64), numpy.array(key, dtype=numpy.uint32), LABEL, into, **more)
