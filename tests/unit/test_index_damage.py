"""A damaged span index: it is refused, or (made up, with checksums that fit) it is never followed out of the file."""

import random
import struct

import numpy
import pytest
from span_index import gathered, made, oracle

from atf._core.errors import AtfError, FormatError
from atf._core.index import ThreadIndex
from atf._core.index_marks import Marks, ranks

pytestmark = pytest.mark.at_rest

HEADER = 448
SECTIONS = 12


def some_rows():
    """Recursion, a generator, an exception, a gap, long spans: every section has something in it."""
    rows, now = [], 0
    for i in range(40):
        now += 5 if i % 9 else 2**32
        rows += [(now, 1, 7, 1, 1, oracle.NONE), (now + 1, 1, 7, 1, 2, oracle.NONE), (now + 2, 2, 7, 1, 3, oracle.NONE)]
        rows += [(now + 3, 2, 7, 5, 3, oracle.NONE), (now + 4, 3, 7, 1, 3, oracle.NONE)]
        now += 2**32 + 10 if i % 7 == 0 else 10
        rows += [(now, 3, 7, 3, 3, oracle.NONE), (now + 1, 2, 7, 6, 3, oracle.NONE), (now + 2, 2, 7, 2, 3, oracle.NONE)]
        rows += [(now + 3, 1, 7, 2, 2, oracle.NONE), (now + 4, 1, 7, 2 if i % 5 else 4, 1, oracle.NONE)]
    return [*rows, (now + 9, 3, 7, 8, 1, oracle.NONE)]


ROWS = some_rows()
DATA, EVENTS, SOURCE = made(ROWS)
WANT = gathered(ThreadIndex(DATA, EVENTS, SOURCE))


def checksum(data):
    """As docs/format-index.md says."""
    mask, lanes = 2**64 - 1, list(range(1, 9))

    def rotated(x):
        return (x << 29 | x >> 35) & mask

    padded = data + bytes(-len(data) % 64)
    for at in range(0, len(padded), 64):
        words = struct.unpack_from("<8Q", padded, at)
        lanes = [rotated((lane ^ word) * 0x9E3779B97F4A7C15 & mask) for lane, word in zip(lanes, words)]
    total = len(data)
    for lane in lanes:
        total = rotated((total ^ lane) * 0xD6E8FEB86659FD93 & mask)
    return total ^ total >> 32


def sections(data):
    """[(offset, bytes)], from the header's counts alone."""
    rows, functions, suspended, long_selves = struct.unpack_from("<4I", data, 8)
    sizes = [4 * rows] * 5 + [2 * rows, rows, 4 * rows, 4 * rows, 64 * functions, 16 * suspended, 16 * long_selves]
    found, at = [], HEADER
    for size in sizes:
        found.append((at, size))
        at = -(-(at + size) // 64) * 64
    assert at == len(data)
    return found


def sealed(data):
    """The same with checksums that fit what stands in it now."""
    data = bytearray(data)
    for i, (at, size) in enumerate(sections(data)):
        struct.pack_into("<Q", data, 120 + 8 * i, checksum(bytes(data[at : at + size])))
    struct.pack_into("<Q", data, HEADER - 8, checksum(bytes(data[: HEADER - 8])))
    return data


def ask_everything(index):
    rows = numpy.arange(index.rows, dtype=numpy.uint32)
    index.gather(rows), index.child_counts(rows), index.starts(rows)
    for row in range(0, index.rows, 7):
        index.children(row), index.path(row)
    for time in (0, 100, 2**33, 2**64 - 1):
        index.at(time), index.first_row(time), index.row_of(time)
    some = range(len(index.functions))
    for f in ({}, {"min_ns": 3}, {"min_ns": 2**32}, {"start_from_ns": 9}, {"end_until_ns": 2**34}, {"min_depth": 2}, {"statuses": 2}):
        for marks in (Marks(index, **f), Marks(index, some, **f)):
            marks.take(0, 1000), marks.top(5), marks.top(5, by_self=True, descending=False)
            marks.sums(numpy.arange(len(index.functions), dtype=numpy.uint32), len(index.functions))
    ranks([(index, number) for number in some], [1, 50, 100])


def test_the_checksums_are_the_documented_ones():
    assert sealed(DATA) == DATA
    assert all(size for _, size in sections(DATA)), "every section has something in it"
    for size in (0, 1, 63, 64, 65, 200):
        assert checksum(bytes(range(200))[:size]) != checksum(bytes(range(200))[:size] + b"\0")


def test_every_truncation_is_refused():
    for size in range(0, len(DATA)):
        with pytest.raises(FormatError):
            ThreadIndex(DATA[:size], EVENTS, SOURCE)
    with pytest.raises(FormatError):
        ThreadIndex(DATA + bytes(64), EVENTS, SOURCE)


def test_every_bit_counts():
    """Each bit of the header, and one of each byte behind it, except of the padding between sections."""
    inside = {i for at, size in sections(DATA) for i in range(at, at + size)}
    chance = random.Random(1)
    flips = [(i, bit) for i in range(HEADER) for bit in range(8)]
    flips += [(i, chance.randrange(8)) for i in range(HEADER, len(DATA))]
    for i, bit in flips:
        data = bytearray(DATA)
        data[i] ^= 1 << bit
        if i < HEADER or i in inside:
            with pytest.raises(FormatError):
                ThreadIndex(data, EVENTS, SOURCE)
        else:
            assert gathered(ThreadIndex(data, EVENTS, SOURCE)) == WANT


def test_lies_with_fitting_checksums_lead_nowhere():
    """FORBIDDEN: a crash, an error that is not ours, or a loop without an end."""
    chance = random.Random(2)
    refused = 0
    for i in range(1500):
        data = bytearray(DATA)
        for _ in range(chance.choice([1, 1, 3, 20])):
            at, size = chance.choice(sections(DATA))
            where = at + chance.randrange(size)
            value = chance.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", chance.randbytes(4), struct.pack("<I", chance.randrange(200))])
            where = where // 4 * 4
            data[where : where + 4] = value
        if i % 4 == 0:  # and the header
            data[chance.choice([6, 8, 9, 12, 13, 16, 20, 24, 25])] = chance.randrange(256)
        try:
            ask_everything(ThreadIndex(sealed(data) if len(data) == _size(data) else data, EVENTS, SOURCE))
        except AtfError:
            refused += 1
    assert refused


def _size(data):
    try:
        sections(data)
    except AssertionError:
        return -1
    return len(data)


def test_a_depth_that_lies_is_noticed():
    data = bytearray(DATA)
    at, size = sections(DATA)[5]
    data[at : at + size] = b"\xf8\xff" * (size // 2)
    index = ThreadIndex(sealed(data), EVENTS, SOURCE)
    with pytest.raises(FormatError, match="damaged while it was in use"):
        Marks(index).sums(numpy.zeros(len(index.functions), dtype=numpy.uint32), 1)
