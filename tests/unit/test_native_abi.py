"""Where arguments stand, by the System V ABI; and what a reader makes of registers, whatever a manifest says of them."""

import struct

import pytest

from atf import trace_native
from atf.native.abi import INTEGER, MEMORY, SSE, Layout, Places, classes_of

LONG, DOUBLE = Layout("long", 8, (INTEGER,), "i64"), Layout("double", 8, (SSE,), "f64")
PAIR = Layout("pair", 16, (INTEGER, INTEGER))
MIXED = Layout("mixed", 16, (INTEGER, SSE))
BIG = Layout("big", 24, (MEMORY,))
VOID = Layout("void", 0, (), "void")
WIDE = Layout("__int128", 16, (INTEGER, INTEGER), "i128", alignment=16)


def places(result, *parameters):
    given = Places()
    return given.returned(result), [given.taken(one) for one in parameters]


def test_scalars_in_their_order():
    returned, taken = places(LONG, LONG, DOUBLE, LONG, DOUBLE)
    assert (returned, taken) == ("rax", ["rdi", "xmm0", "rsi", "xmm1"])


def test_what_does_not_fit_goes_by_the_stack_and_later_ones_still_fit():
    _, taken = places(VOID, *[LONG] * 5, PAIR, LONG, LONG)
    assert taken[5:] == [["stack+0", "stack+8"], "r9", "stack+16"]


def test_a_result_in_memory_takes_the_first_register():
    assert places(BIG, LONG) == ("rax", ["rsi"])
    assert places(Layout("named", 40, (MEMORY,), by_reference=True), LONG) == ("rax", ["rsi"])


def test_structures_in_two_kinds_of_registers():
    assert places(MIXED, MIXED, DOUBLE) == (["rax", "xmm0"], [["rdi", "xmm0"], "xmm1"])


def test_the_stack_is_aligned_for_wide_ones():
    _, taken = places(VOID, *[LONG] * 7, WIDE, LONG)
    assert taken[6:] == ["stack+0", ["stack+16", "stack+24"], "stack+32"]


@pytest.mark.parametrize(
    ("bytes", "parts", "classes"),
    [
        (16, [(0, 8, SSE), (8, 8, SSE)], (SSE, SSE)),
        (12, [(0, 4, SSE), (4, 4, INTEGER), (8, 4, SSE)], (INTEGER, SSE)),
        (8, [(0, 4, SSE), (4, 4, SSE)], (SSE,)),
        (24, [(0, 8, INTEGER)], (MEMORY,)),
        (16, [(0, 16, MEMORY)], (MEMORY,)),
        (1, [], ()),
    ],
)
def test_classes_of_structures(bytes, parts, classes):
    assert classes_of(bytes, parts) == classes


@pytest.mark.parametrize(
    ("shown_as", "word", "value"),
    [
        ("i8", 0xFFFFFF80, -128),
        ("u8", 0xFFFFFF80, 128),
        ("i64", (1 << 64) - 1, -1),
        ("u64", (1 << 64) - 1, (1 << 64) - 1),
        ("bool", 0xFF00, False),
        ("bool", 1, True),
        ("f32", 0xDEADBEEF00000000 | struct.unpack("<I", struct.pack("<f", -1.5))[0], -1.5),
        ("f64", struct.unpack("<Q", struct.pack("<d", 1e300))[0], 1e300),
        ("pointer", 0x7F00, "0x7f00"),
        ("i99999999999", 5, 5),
        ("no such", 5, "0x5"),
        (None, 5, "0x5"),
        ("c128", 5, "0x5"),
        ("void", 5, None),
    ],
)
def test_values(shown_as, word, value):
    assert trace_native.value({"as": shown_as, "at": "rdi"}, {"rdi": word}, b"") == value


@pytest.mark.parametrize("at", [None, 7, "rzz", "stack+8", "stack+x", "stack+-8", [], ["rdi", None], [["rdi"]], {}])
def test_places_that_are_none(at):
    assert trace_native.value({"as": "i32", "at": at}, {"rdi": 1}, b"12345678") == "…"


def payload(stack=b"", blocks=b""):
    return struct.pack("<Q8QQQQHH", 1 << 32, *range(8), 9, 10, 11, len(stack), 0) + stack + blocks


def test_a_detail_of_another_writer_has_no_arguments():
    assert "args" not in trace_native.decode(3, payload(b"ab"), 1, None)
    assert trace_native.decode(3, payload(b"ab", b"\0"), 1, None)["stack"] == b"ab"


def test_blocks_that_do_not_fit_are_left_out():
    vectors = struct.pack("<HH8Q", 1, 64, *range(8))
    assert trace_native.decode(3, payload(b"", vectors), 1, None)["args"]["xmm7"] == "0x7"
    assert "args" not in trace_native.decode(3, payload(b"", vectors[:-1]), 1, None)
    walk = struct.pack("<HH3Q", 2, 24, 5, 1 << 32, 6)
    natives = trace_native.Natives({"symbols": [{"function_id": "0x100000000", "name": "outer"}], "return_places": {"0x5": "outer+0x1"}})
    assert trace_native.decode(3, payload(b"", walk), 1, natives)["backtrace"] == [{"returns_to": "outer+0x1", "in": "outer"}]


@pytest.mark.parametrize("symbols", [None, 5, [5], [{"function_id": 7}], [{"function_id": "x"}], [{"function_id": "0x100000000", "parameters": [3, {}], "returns": 3}]])
def test_manifests_that_lie(symbols):
    natives = trace_native.Natives({"symbols": symbols, "return_places": []})
    vectors = struct.pack("<HH2Q", 1, 16, 1, 2)
    assert "args" in trace_native.decode(3, payload(b"", vectors), 1, natives)
    assert "value" in trace_native.decode(4, payload(b"", vectors), 1, natives)
