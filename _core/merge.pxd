"""What a merge works on, for cimport."""

from libc.stdint cimport uint32_t, uint64_t
from atf._core.idmap cimport atf_idmap
from atf._core.layout cimport atf_event

cdef extern from "merge.h" nogil:
    ctypedef struct atf_filter:
        uint32_t any, kinds, min_depth, max_depth
    ctypedef struct atf_stream:
        const atf_event *base
        const atf_event *cursor
        const atf_event *end
        const atf_idmap *functions
    ctypedef struct atf_loser:
        uint64_t key
        uint32_t stream
    ctypedef struct atf_merge:
        atf_filter filter
        atf_stream *streams
        atf_loser *tree
        uint32_t count, leaves
