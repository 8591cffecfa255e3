/* What lies in the rings between two moments, copied and left where it is: other stretches overlap it, and producers go on.
 *
 * A thread's rings are read from the newest to the oldest, each for as long as its part is copied: a FULL ring is claimed and
 * given back, the ACTIVE one is read under PEEK (see ring.h). So of four rings a producer always finds another one to go on in,
 * and what it overwrites meanwhile is the oldest, which is read last. Never includes Python.h. */
#ifndef ATF_SLICE_H
#define ATF_SLICE_H
#include "timescale.h"

/* One thread's part of a stretch: its two files as they will stand on the disk. */
typedef struct atf_cut_thread {
    uint32_t number, tid, entered;
    uint64_t events, gaps;        /* records in index.atf, GAPs among them */
    uint64_t details, detail_bytes;
    uint64_t overwritten;         /* records of the stretch that were gone before they were read: at least so many */
    uint64_t missing;             /* records between others that were dropped */
    uint64_t details_lost;
    uint64_t time_start_ns, time_end_ns;
    uint8_t *index, *detail;      /* header, records, footer; detail NULL: none */
    char name[48];
} atf_cut_thread;

typedef struct atf_cut {
    atf_cut_thread *threads; /* in order of their numbers */
    uint32_t n, room;
    uint64_t *functions;     /* distinct ids of its records */
    uint32_t n_functions, functions_room;
    int no_memory;
} atf_cut;

/* Whoever cuts: one for a process's own rings, or for another's. */
typedef struct atf_cutter {
    atf_control *control;
    atf_registry *registry;
    atf_global_lane *global;
    uint32_t dead;           /* the producers are gone: no ring changes hands any more */
    atf_timescale scale;
    /* the owner's clock, see atf_cutter_now */
    uint64_t turn_ticks, step_ns;
    atf_anchor origin;
} atf_cutter;

void atf_cutter_open(atf_cutter *k, atf_control *c, atf_registry *r, atf_global_lane *g, int dead);

/* Now, on the scale of the events of this session: CLOCK_BOOTTIME within microseconds, and no event that was written before a call has
 * a later time. The owner's alone: it extends the anchors, so that what a moment was called once it is called for ever. */
void atf_cutter_lead(atf_cutter *k);
uint64_t atf_cutter_now(atf_cutter *k);
/* For others: takes the anchors as they are now. */
void atf_cutter_follow(atf_cutter *k);

/* Cells of the global lane that nobody will drain: the oldest go when half of them are used. The owner's alone. */
void atf_cutter_tidy(atf_cutter *k);

/* Copies what was written in [start_ns, end_ns]. last_ns: not 0: of each thread that lives its last so many ns instead, and of the others what
 * lies in the last so many of all. A thread without records is left out. 0 or -1: no memory. */
int atf_cut_take(atf_cutter *k, atf_cut *cut, uint64_t start_ns, uint64_t end_ns, uint64_t last_ns);
void atf_cut_free(atf_cut *cut);

/* Makes `dir` with the threads' directories and files, and manifest.json last. 0, or an errno. *bytes: of all files. */
int atf_cut_write(const atf_cut *cut, const char *dir, const void *manifest, uint64_t manifest_bytes, uint64_t *bytes);

/* ---- between slice.c, slice_rings.c and slice_files.c */
typedef struct atf_stretch {
    uint64_t start_ns, end_ns; /* both included */
    uint64_t last_ns;          /* not 0: start_ns is not known before the newest record is */
} atf_stretch;

/* Records that follow each other, in ticks, as they were copied out of one ring. */
typedef struct atf_run {
    struct atf_run *next; /* the newer one */
    uint64_t first, n;    /* number of the first */
    atf_event events[];
} atf_run;
typedef struct atf_detail_run {
    struct atf_detail_run *next;
    uint64_t first, n, bytes;
    uint8_t records[];
} atf_detail_run;

atf_run *atf_cut_run(const atf_event *events, uint64_t first, uint64_t n); /* NULL: no memory */
/* Copies the records of a slot's thread out of its rings, oldest first in *runs. Returns 0 when nothing is missing in front of
 * these; else the number of the first record that stands in its rings, UINT64_MAX: they are empty. */
uint64_t atf_cut_events(atf_cutter *k, atf_cut *cut, atf_slot *slot, uint32_t number, atf_stretch *w, atf_run **runs);
/* The details with the numbers [least, most], as far as they are there. */
void atf_cut_details(atf_cutter *k, atf_cut *cut, atf_slot *slot, uint32_t number, uint64_t least, uint64_t most, atf_detail_run **runs);
uint64_t atf_cut_newest_ns(atf_cutter *k, atf_slot *slot); /* the time of its newest record, 0: it has none */

/* Joins what was copied of a thread to its files. 0 or -1. */
int atf_cut_join(atf_cutter *k, atf_cut *cut, atf_cut_thread *t, const atf_run *runs, const atf_detail_run *details, uint64_t gap_ns);
#endif
