"""The declaration of FileMap, for cimport."""

from libc.stdint cimport uint32_t

cdef extern from "mappings.h" nogil:
    ctypedef struct atf_mapping:
        uint32_t damaged
    ctypedef struct atf_mappings:
        pass
    atf_mapping *atf_mapping_take(atf_mappings *all, void *start, size_t size)
    void atf_mapping_give_back(atf_mappings *all, atf_mapping *slot)

cdef atf_mappings *mappings() noexcept

cdef class FileMap:
    cdef char *start
    cdef readonly size_t size
    cdef atf_mapping *slot
    cdef object path
    cdef object identity
    cpdef check(self)
