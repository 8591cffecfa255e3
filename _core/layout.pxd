"""The record and file structs of format.h, for cimport."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "format.h" nogil:
    enum:
        ATF_NO_DETAIL
    enum atf_kind:
        ATF_CALL, ATF_RETURN, ATF_EXCEPTION, ATF_INSTANT, ATF_YIELD, ATF_RESUME, ATF_SIGNAL, ATF_GAP, ATF_KIND_MAX
    ctypedef struct atf_event:
        uint64_t timestamp_ns
        uint64_t function_id
        uint32_t thread_id
        uint32_t event_kind
        uint32_t call_depth
        uint32_t detail_seq
    ctypedef struct atf_index_header:
        char magic[4]
        uint8_t endian, version, arch, os
        uint32_t flags, thread_id
        uint8_t clock_type
        uint32_t event_size, event_count
        uint64_t events_offset, footer_offset, time_start_ns, time_end_ns
    ctypedef struct atf_index_footer:
        char magic[4]
        uint32_t crc32
        uint64_t event_count, time_start_ns, time_end_ns, bytes_written
    ctypedef struct atf_detail_header:
        char magic[4]
        uint8_t endian, version, arch, os
        uint32_t flags, thread_id
        uint64_t events_offset, event_count, bytes_length, index_seq_start, index_seq_end
    ctypedef struct atf_detail_record:
        uint32_t total_length
        uint16_t event_type, flags
        uint32_t index_seq, thread_id
        uint64_t timestamp
    ctypedef struct atf_detail_footer:
        char magic[4]
        uint32_t crc32
        uint64_t event_count, bytes_length, time_start_ns, time_end_ns
