"""A read-only view of a file's first bytes, as a buffer that owns its mapping.

A mapped page that lies wholly beyond the end of its file kills the process that touches it (SIGBUS), and no check can
exclude that another process cuts the file between the check and the touch. What is done instead: opening
reads header, footer and tail by pread, only accepted bytes are mapped, and every door (`events`, `record`)
calls :meth:`FileMap.check` first. What remains is a file that is cut while one numpy expression runs over
it: where `busguard` is installed, that reads zeros and makes the map `damaged`. No writer of ours ever cuts a
file below the records it has written.
"""

import os

from cpython.buffer cimport PyBuffer_FillInfo
from atf._core.errors import FormatError

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t length)
    void *MAP_FAILED
    int PROT_READ, MAP_SHARED

cdef extern from *:
    """
    #include "mappings.h"
    static atf_mappings atf_all_mappings;
    """
    atf_mappings atf_all_mappings


cdef atf_mappings *mappings() noexcept:
    return &atf_all_mappings


cdef class FileMap:
    """The first `size` bytes of the open file `fd`, without keeping the descriptor.

    Implements the buffer protocol; the mapping goes when the last view of it does.
    """

    def __cinit__(self, int fd, size_t size, path):
        self.start = NULL
        self.slot = NULL
        self.size = size
        self.path = path
        state = os.fstat(fd)
        self.identity = (state.st_dev, state.st_ino)
        if state.st_size < size:
            raise FormatError(f"{path}: was cut to {state.st_size} bytes while it was opened; open it again")
        cdef void *start = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
        if start == MAP_FAILED:
            raise FormatError(f"{path}: cannot be mapped into memory ({size} bytes); see the limits on address space (ulimit -v)")
        self.start = <char *>start
        self.slot = atf_mapping_take(&atf_all_mappings, start, size)

    def __dealloc__(self):
        if self.slot != NULL:
            atf_mapping_give_back(&atf_all_mappings, self.slot)
        if self.start != NULL:
            munmap(self.start, self.size)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.start, self.size, 1, flags)

    @property
    def damaged(self):
        """Whether a page was gone when it was touched, so that zeros were read; only with `busguard` installed."""
        return self.slot != NULL and self.slot.damaged != 0

    cpdef check(self):
        """Raises FormatError when the mapped file has become shorter than its map, or the map is damaged. About 2 us."""
        if self.damaged:
            raise FormatError(f"{self.path}: was cut while it was read; open it again to read what is left")
        try:
            state = os.stat(self.path)
        except OSError:
            return # removed or out of reach by name: the mapped file itself lives on with its map
        if (state.st_dev, state.st_ino) == self.identity and state.st_size < self.size:
            raise FormatError(
                f"{self.path}: was cut from {self.size} to {state.st_size} bytes while it was open; open it again to read what is left"
            )
