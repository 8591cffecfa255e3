/* ATF v2 on disk: headers, records and footers, byte for byte. Little-endian. See docs/format.md.
 * Data only; never includes Python.h. */
#ifndef ATF_FORMAT_H
#define ATF_FORMAT_H
#include <stddef.h>
#include <stdint.h>

#define ATF_NO_DETAIL 0xFFFFFFFFu
#define ATF_FILE_VERSION 1u
#define ATF_CLOCK_BOOTTIME 3u
#if defined(__aarch64__)
#define ATF_ARCH 2u
#else
#define ATF_ARCH 1u
#endif
#if defined(__APPLE__)
#define ATF_OS 3u
#else
#define ATF_OS 4u
#endif

enum atf_kind {
    ATF_CALL = 1, ATF_RETURN = 2, ATF_EXCEPTION = 3, /* the format's own */
    ATF_INSTANT = 4, ATF_YIELD = 5, ATF_RESUME = 6, ATF_SIGNAL = 7, ATF_GAP = 8,
    ATF_KIND_MAX = 15 /* above this, and 0, is not an event */
};

/* call_depth of a GAP record. */
enum atf_gap_reason { ATF_GAP_EXHAUSTED = 1, ATF_GAP_KILLED = 2, ATF_GAP_DISK_FULL = 3, ATF_GAP_RATE = 4, ATF_GAP_UNKEPT = 5 /* outside of every window */,
                      ATF_GAP_EARLIER = 6 /* in earlier parts of the recording */ }; /* from ATF_GAP_UNKEPT on: no losses */

/* An INSTANT of the recorder's own: from here on its thread records another level. function_id is these 24 bits, then a byte of
 * ATF_LEVEL_*; call_depth tells how many recorded calls are in progress. At ATF_LEVEL_ONLY_CALLS no ends of calls follow. */
#define ATF_LEVEL_IDS 0xFFFFFFu
#define ATF_LEVEL_ONLY_CALLS 1u

enum atf_detail_type {
    ATF_D_CALL = 3, ATF_D_RETURN = 4, /* native registers */
    ATF_D_PY_CALL = 16, ATF_D_PY_RETURN = 17, ATF_D_PY_EXCEPTION = 18, ATF_D_EVENT = 19, ATF_D_SIGNAL = 20
};

/* One event, the same 32 bytes in a ring and in index.atf. In a ring timestamp_ns holds clock ticks and
 * detail_seq the producer's detail number; the drain turns both into what the file wants. */
typedef struct atf_event {
    uint64_t timestamp_ns;
    uint64_t function_id; /* module_id << 32 | symbol_index */
    uint32_t thread_id;   /* OS thread id */
    uint32_t event_kind;
    uint32_t call_depth;  /* of the function's own frame; the outermost is 1 */
    uint32_t detail_seq;
} atf_event;
_Static_assert(sizeof(atf_event) == 32, "an event is 32 bytes");

static inline int atf_tells_level(const atf_event *e)
{
    return e->event_kind == ATF_INSTANT && e->function_id >> 8 == ATF_LEVEL_IDS;
}

typedef struct __attribute__((packed)) atf_index_header {
    char magic[4]; /* ATI2 */
    uint8_t endian, version, arch, os;
    uint32_t flags; /* bit 0: detail.atf exists */
    uint32_t thread_id;
    uint8_t clock_type, reserved0[3];
    uint32_t reserved1;
    uint32_t event_size, event_count;
    uint64_t events_offset, footer_offset, time_start_ns, time_end_ns;
} atf_index_header;
_Static_assert(sizeof(atf_index_header) == 64 && offsetof(atf_index_header, events_offset) == 32, "index header");

typedef struct __attribute__((packed)) atf_index_footer {
    char magic[4]; /* 2ITA */
    uint32_t crc32; /* of the events; 0: not computed */
    uint64_t event_count, time_start_ns, time_end_ns, bytes_written;
    uint8_t reserved[24];
} atf_index_footer;
_Static_assert(sizeof(atf_index_footer) == 64, "index footer");

typedef struct __attribute__((packed)) atf_detail_header {
    char magic[4]; /* ATD2 */
    uint8_t endian, version, arch, os;
    uint32_t flags, thread_id, reserved0;
    uint64_t events_offset, event_count, bytes_length, index_seq_start, index_seq_end;
    uint8_t reserved1[4];
} atf_detail_header;
_Static_assert(sizeof(atf_detail_header) == 64 && offsetof(atf_detail_header, events_offset) == 20, "detail header");

typedef struct __attribute__((packed)) atf_detail_record {
    uint32_t total_length; /* this header included */
    uint16_t event_type, flags;
    uint32_t index_seq; /* position of its event in index.atf; in a ring, the producer's number (low 32 bits) */
    uint32_t thread_id;
    uint64_t timestamp; /* as in the event */
} atf_detail_record;
_Static_assert(sizeof(atf_detail_record) == 24, "detail record header");

typedef struct __attribute__((packed)) atf_detail_footer {
    char magic[4]; /* 2DTA */
    uint32_t crc32;
    uint64_t event_count, bytes_length, time_start_ns, time_end_ns;
    uint8_t reserved[24];
} atf_detail_footer;
_Static_assert(sizeof(atf_detail_footer) == 64, "detail footer");
#endif
