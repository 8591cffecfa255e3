"""Where arguments stand on aarch64, and what a reader makes of the registers there."""

import struct

import pytest

from atf import trace_native
from atf.native.aapcs64 import Places
from atf.native.abi import INTEGER, MEMORY, SSE, Layout, alike_of

LONG, DOUBLE = Layout("long", 8, (INTEGER,), "i64"), Layout("double", 8, (SSE,), "f64")
EXTENDED = Layout("long double", 16, (MEMORY,), "f80", alignment=16)
PAIR = Layout("pair", 16, (INTEGER, INTEGER))
MIXED = Layout("mixed", 16, (INTEGER, SSE))
FLOATS = Layout("floats", 12, (SSE, SSE), alike=(3, 4))
FOUR = Layout("four", 32, (MEMORY,), alike=(4, 8))
BIG = Layout("big", 24, (MEMORY,))
NAMED = Layout("named", 8, (INTEGER,), by_reference=True)
VOID = Layout("void", 0, (), "void")
WIDE = Layout("__int128", 16, (INTEGER, INTEGER), "i128", alignment=16)


def places(result, *parameters):
    given = Places()
    return given.returned(result), [given.taken(one) for one in parameters]


def test_scalars_in_their_order():
    assert places(LONG, LONG, DOUBLE, LONG, DOUBLE) == ("x0", ["x0", "d0", "x1", "d1"])


def test_what_does_not_fit_goes_by_the_stack_and_so_does_all_behind_it():
    _, taken = places(VOID, *[LONG] * 7, PAIR, LONG, DOUBLE)
    assert taken[7:] == [["stack+0", "stack+8"], "stack+16", "d0"]


def test_structures():
    assert places(MIXED, MIXED, FLOATS, FOUR, LONG) == (["x0", "x1"], [["x0", "x1"], ["d0", "d1", "d2"], ["d3", "d4", "d5", "d6"], "x2"])
    assert places(FOUR, FOUR, FOUR, FLOATS, DOUBLE)[1] == [["d0", "d1", "d2", "d3"], ["d4", "d5", "d6", "d7"], ["stack+0", "stack+8"], "stack+16"]


def test_what_goes_by_its_address():
    assert places(BIG, BIG, NAMED, LONG) == (None, ["x0", "x1", "x2"])
    assert [Places().points(one) for one in (BIG, NAMED, FOUR, LONG)] == [True, True, False, False]


def test_wide_ones_begin_at_even_registers():
    _, taken = places(VOID, LONG, WIDE, *[LONG] * 5, WIDE, LONG)
    assert taken == ["x0", ["x2", "x3"], "x4", "x5", "x6", "x7", "stack+0", ["stack+16", "stack+24"], "stack+32"]


def test_a_register_that_is_recorded_by_half():
    assert places(EXTENDED, EXTENDED, DOUBLE) == (None, [None, "d1"])


@pytest.mark.parametrize(
    ("bytes", "parts", "alike"),
    [
        (12, [(0, 4, SSE), (4, 4, SSE), (8, 4, SSE)], (3, 4)),
        (16, [(0, 8, SSE), (8, 4, SSE)], None),
        (16, [(0, 8, SSE), (8, 8, INTEGER)], None),
        (40, [(8 * k, 8, SSE) for k in range(5)], None),
        (8, [(0, 8, SSE), (0, 8, SSE)], (1, 8)),
        (32, [(0, 16, MEMORY), (16, 16, MEMORY)], (2, 16)),
        (1, [], None),
    ],
)
def test_structures_of_floats(bytes, parts, alike):
    assert alike_of(bytes, parts) == alike


def test_without_a_signature_there_are_registers():
    vectors = struct.pack("<HH8Q", 1, 64, *range(100, 108))
    payload = struct.pack("<Q8QQQQHH", 7, *range(8), 1, 2, 3, 0, 0) + vectors
    call = trace_native.decode(3, payload, 2, None)
    assert list(call["args"]) == [*(f"arg{n}" for n in range(8)), *(f"d{n}" for n in range(8))] and call["args"]["arg7"] == "0x7" and call["args"]["d1"] == "0x65"
    back = trace_native.decode(4, payload, 2, None)
    assert back["value"] == {"x0": "0x0", "x1": "0x1", "d0": "0x64", "d1": "0x65", "d2": "0x66", "d3": "0x67"}
