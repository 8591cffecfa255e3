"""Keeps a process alive that reads a mapped file while another process cuts it.

After `install()`, a touch of a page that is gone reads zeros, and the map's `damaged` becomes true; `FileMap.check`, which every door to
the records calls, then raises FormatError. Meant for a server: a program that merely uses atf keeps its signal handlers.
"""

import os

from libc.stdint cimport uint64_t
from atf._core.filemap cimport atf_mappings, mappings

cdef extern from "bus.h" nogil:
    int atf_busguard_install(atf_mappings *mappings)
    uint64_t atf_busguard_hits()


def install():
    """Puts the handler of SIGBUS in place, before the one that is there; once. OSError when the system refuses."""
    why = atf_busguard_install(mappings())
    if why:
        raise OSError(why, os.strerror(why))


def hits():
    """How often a touch was turned into zeros since the process began."""
    return atf_busguard_hits()
