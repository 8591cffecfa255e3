/* The flight recorder's part of the drain: looks at every event for marks, holds what is outside of windows in memory, and gives
 * to the files what windows cover. One for all processes of a session; runs on the drain's thread, under the engine's lock.
 *
 *   seen by atf_flight_see  ->  history  -- settled in order -->  files, or forgotten
 *
 * An item is decided at a moment P before which every event of every thread has been seen: inside a window it is kept; older than
 * P - pre-roll it is forgotten, because no mark that is still to come reaches back to it; between these it waits. So what is
 * kept does not depend on the order in which threads are drained. Never includes Python.h. */
#ifndef ATF_FLIGHT_H
#define ATF_FLIGHT_H
#include "source.h"
#include "windows.h"

enum atf_keep {
    ATF_KEEP_ALL = 0,     /* everything: there are no windows */
    ATF_KEEP_DETAILS = 1, /* every event; details inside windows */
    ATF_KEEP_WINDOWS = 2  /* events and details inside windows */
};

typedef struct atf_flight {
    uint32_t keep;
    uint64_t pre_ns, post_ns;
    atf_rules policy;
    atf_windows windows;
    atf_store store;
    atf_asked asked;
    atf_output *outputs;  /* all with a history, by ->kept_next */
    uint64_t marks;       /* by rules and from outside */
    uint64_t cut_items;   /* forgotten before their time: the store was used up */
    uint64_t decided_ns;  /* the last P */
} atf_flight;

/* 0 or an errno. */
int atf_flight_open(atf_flight *f, uint32_t keep, uint64_t pre_ns, uint64_t post_ns, uint64_t history_bytes);
void atf_flight_close(atf_flight *f);
void atf_flight_mark(atf_flight *f, uint64_t ns, uint32_t rule);
/* A window of known bounds. */
void atf_flight_keep(atf_flight *f, uint64_t start_ns, uint64_t end_ns, uint64_t mark_ns, uint32_t rule);
int atf_flight_unsettled(const atf_flight *f);

/* What is staged for an output is about to be written: looks at it, and takes into the history what is not to be written yet. */
void atf_flight_see(atf_source *s, atf_output *o);
/* Decides the items of a source up to P; final: no mark will come any more. */
void atf_flight_settle(atf_source *s, uint64_t p_ns, int final);
void atf_flight_settled(atf_flight *f, uint64_t p_ns); /* after all sources were */
void atf_flight_leave(atf_source *s);                  /* its outputs go */
#endif
