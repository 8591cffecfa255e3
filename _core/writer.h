/* The two files of one recorded thread: bytes and files, no rings. Everything that is refused by the disk is
 * reported to the caller and leaves the files at a record's end. Never includes Python.h. */
#ifndef ATF_WRITER_H
#define ATF_WRITER_H
#include "format.h"

typedef struct atf_writer {
    int index_fd, detail_fd;       /* -1: not open */
    int error;                     /* errno of the last refusal, 0 after a success */
    uint32_t tid;
    uint64_t events;               /* in index.atf */
    uint64_t details, detail_bytes;/* in detail.atf */
    uint64_t reserved;             /* blocks of index.atf are allocated up to here; UINT64_MAX: the file system cannot */
    uint64_t time_start_ns, time_end_ns;
    uint32_t first_detail_index, last_detail_index; /* index_seq of the first and the last detail */
    uint32_t carried;              /* calls that are told again at the beginning of index.atf, behind its ATF_GAP_EARLIER */
    char *dir;                     /* <pid dir>/thread_<n>; its own */
} atf_writer;

/* Creates thread_<number>/index.atf below `dir`. 0, or -1 with w->error set; may be called again.
 * first: n events that the file begins with, an ATF_GAP_EARLIER and calls; whoever finds the file finds all of them in it. */
int atf_writer_open(atf_writer *w, const char *dir, uint32_t number, uint32_t tid, const atf_event *first, uint32_t n);

/* Opens files that a dead recorder left, cuts what is incomplete at their ends, and goes on behind it.
 * `lost` (by reason) and `gaps` (records) receive what the GAPs in the file say. 0, -1 with w->error, 1: no such file. */
int atf_writer_resume(atf_writer *w, const char *dir, uint32_t number, uint64_t lost[8], uint64_t *gaps);

/* Appends. Return how many events are in the file now of those given; details: all or none (0 or -1). */
uint64_t atf_writer_events(atf_writer *w, const atf_event *events, uint64_t n);
int atf_writer_details(atf_writer *w, const void *records, uint64_t bytes, uint64_t n, uint32_t first_index, uint32_t last_index);

/* Leads events that are in the file to details that are: n records of detail.atf, the first of which has the number `first`.
 * `room`: memory for this many events. 0 or -1. */
int atf_writer_link(atf_writer *w, const void *records, uint64_t n, uint32_t first, atf_event *room, uint32_t events);

/* Opens files again that atf_writer_finish completed: their footers go. 0 or -1. */
int atf_writer_reopen(atf_writer *w);

/* Takes back the last details: those of events that the disk refused. */
void atf_writer_cut_details(atf_writer *w, uint64_t bytes, uint64_t n, uint32_t last_index);

/* Footers, then headers; closes both files. 0, or -1: the disk refused (readers recover such files). */
int atf_writer_finish(atf_writer *w);

/* Closes both files as they are, and forgets everything. */
void atf_writer_drop(atf_writer *w);
#endif
