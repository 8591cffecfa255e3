"""Arrays that are kept as long as a trace is open, in files without a name: the system may take their memory back."""

from __future__ import annotations

import mmap
import os
import tempfile
from typing import Any

_SMALLEST_BYTES = 1 << 16  # below this a file costs more than it saves


def array(length: int, kind: str) -> Any:
    """A writable array of shape (length,) of zeros; in plain memory when it is small, or when there is no room for a file."""
    import numpy

    size = length * numpy.dtype(kind).itemsize
    if size >= _SMALLEST_BYTES:
        try:
            with tempfile.TemporaryFile(prefix="atf-") as file:
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, and a signal later
                return numpy.frombuffer(mmap.mmap(file.fileno(), size), dtype=kind)
        except (OSError, AttributeError):
            pass
    return numpy.zeros(length, dtype=kind)


def kept(values: Any) -> Any:
    """A copy of an array of shape (N,), in such a file."""
    made = array(len(values), values.dtype.str)
    made[:] = values
    return made
