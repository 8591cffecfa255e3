"""Arrays in files without a name."""

import mmap
import os

import numpy
import pytest

from atf.query import scratch

LARGE = 1 << 16


def home_of(array):
    while isinstance(array, numpy.ndarray) and array.base is not None:
        array = array.base
    return array.obj if isinstance(array, memoryview) else array


@pytest.mark.parametrize("kind", ["u8", "u4"])
def test_large_arrays_are_mapped_from_a_file_that_has_no_name(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    made = scratch.array(LARGE, kind)
    assert made.shape == (LARGE,) and made.dtype == kind and not made.any() and made.flags.writeable
    assert isinstance(home_of(made), mmap.mmap)
    assert os.listdir(tmp_path) == []
    values = numpy.arange(LARGE, dtype=kind)
    copy = scratch.kept(values)
    assert (copy == values).all() and copy.dtype == values.dtype and isinstance(home_of(copy), mmap.mmap)


def test_small_ones_and_those_without_room_are_plain(monkeypatch):
    assert not isinstance(home_of(scratch.array(10, "u8")), mmap.mmap)
    assert len(scratch.array(0, "u8")) == 0

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scratch.os, "posix_fallocate", full)
    made = scratch.array(LARGE, "u8")
    assert made.shape == (LARGE,) and not isinstance(home_of(made), mmap.mmap)
