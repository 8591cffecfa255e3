"""The three segments: sizes, layout, and refusals of what is not ours or is damaged."""

import mmap
import struct

import pytest

from atf._core import shm
from atf._core.errors import SegmentError, UsageError

SMALL = {"slots": 2, "index_rings": 2, "index_bytes": 4096, "detail_rings": 2, "detail_bytes": 16384, "global_cells": 8, "names_bytes": 256,
         "spare_rings": 2, "spare_bytes": 16384}  # fmt: skip


def buffers(**options):
    return [mmap.mmap(-1, size) for size in shm.sizes(**{**SMALL, **options})]


def formatted(**values):
    made = buffers()
    shm.format(*made, pid=7, start=8, **values, **SMALL)
    return made


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": 0}, {"slots": 5000}, {"index_rings": 1}, {"index_rings": 9}, {"detail_rings": 1}, {"index_bytes": 100},
        {"detail_bytes": 4096}, {"index_bytes": 1 << 31}, {"global_cells": 3}, {"global_cells": 0},
        {"spare_rings": 65}, {"spare_bytes": 4096}, {"spare_bytes": 1 << 31},
    ],
)  # fmt: skip
def test_numbers_that_cannot_be(wrong):
    with pytest.raises(UsageError):
        shm.sizes(**{**SMALL, **wrong})


def test_sizes_grow_with_their_numbers():
    control, registry, rings = shm.sizes(**SMALL)
    assert shm.sizes(**{**SMALL, "spare_rings": 5})[2] - rings == 3 * 16384
    assert shm.sizes(**{**SMALL, "slots": 4})[2] - rings == 2 * (2 * 4096 + 2 * 16384)
    assert shm.sizes(**{**SMALL, "names_bytes": 512})[1] - registry == 256
    assert shm.sizes(**{**SMALL, "index_bytes": 4097}) == shm.sizes(**{**SMALL, "index_bytes": 8192})
    assert control % 4096 == 0


def test_a_new_session_says_what_it_is():
    info = shm.Segments(*formatted(policy="block", level=3)).info
    assert (info["pid"], info["start"], info["policy"], info["level"]) == (7, 8, "block", 3)
    assert (info["state"], info["mode"], info["threads_seen"], info["drain_passes"]) == ("recording", "global", 0, 0)
    assert info["ticks_per_second"] > 1_000_000


def test_stop_is_seen():
    segments = shm.Segments(*formatted())
    segments.stop()
    assert segments.info["state"] == "stopped"


def test_too_small_or_unknown():
    made = buffers()
    made[2] = mmap.mmap(-1, 4096)
    with pytest.raises(SegmentError, match="smaller"):
        shm.format(*made, pid=1, start=1, **SMALL)
    with pytest.raises(UsageError, match="policy"):
        shm.format(*buffers(), pid=1, start=1, policy="best", **SMALL)
    with pytest.raises(SegmentError, match="not made by atf"):
        shm.Segments(*buffers())


@pytest.mark.parametrize("which", range(3))
def test_another_version_and_a_cut_segment(which):
    made = formatted()
    made[which][4:6] = struct.pack("<H", 9)
    with pytest.raises(SegmentError, match="layout version 9"):
        shm.Segments(*made)
    made = formatted()
    made[which] = memoryview(made[which])[: len(made[which]) - 64]
    with pytest.raises(SegmentError, match="claims"):
        shm.Segments(*made)


def test_segments_in_the_wrong_order():
    made = formatted()
    with pytest.raises(SegmentError, match="not made by atf"):
        shm.Segments(made[1], made[0], made[2])


def test_no_offset_is_followed_out_of_its_segment():
    """FORBIDDEN: a damaged registry that is taken and followed. Every 8-byte word is set to a large number in turn."""
    clean = formatted()
    registry = bytes(clean[1])
    refused = 0
    for offset in range(32, len(registry) - 7, 8):
        damaged = bytearray(registry)
        damaged[offset : offset + 8] = struct.pack("<Q", 1 << 40)
        try:
            segments = shm.Segments(clean[0], damaged, clean[2])
        except SegmentError:
            refused += 1
            continue
        segments.slots(), segments.names(), segments.name_threads({1: "x"})  # must not crash
    assert refused > 20
