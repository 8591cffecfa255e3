"""The declaration of FileMap, for cimport."""

cdef class FileMap:
    cdef char *start
    cdef readonly size_t size
    cdef object path
    cdef object identity
    cpdef check(self)
