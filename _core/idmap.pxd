"""The map from function ids to small numbers, for cimport."""

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "idmap.h" nogil:
    enum:
        ATF_IDMAP_NONE
    ctypedef struct atf_idmap:
        uint32_t count
    int atf_idmap_init(atf_idmap *m)
    void atf_idmap_free(atf_idmap *m)
    int atf_idmap_put(atf_idmap *m, uint64_t id, uint32_t value)
    uint32_t atf_idmap_get(const atf_idmap *m, uint64_t id)
