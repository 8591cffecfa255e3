/* A producer's side of the global lane: a record into its next free cell. Never includes Python.h. */
#ifndef ATF_CELLS_H
#define ATF_CELLS_H
#include "heartbeat.h"
#include "producer.h"
#include <time.h>

/* Cells that only records may take that are never dropped: a crash, a thread's end. */
#define ATF_KEPT_CELLS(g) ((g)->capacity / 256)

static inline int cells_full(atf_global_lane *g)
{
    return atf_load_relaxed64(&g->tail) - atf_load_relaxed64(&g->consumed) >= g->capacity - ATF_KEPT_CELLS(g);
}

/* 1: published; 0: the lane, or what of it is not kept for others, stayed full for wait_ns, or the drain is not there. */
static inline int put_cell(atf_control *c, atf_global_lane *g, const atf_thread *t, uint64_t seq, const atf_event *e, uint64_t wait_ns, int kept)
{
    uint64_t room = kept ? g->capacity : g->capacity - ATF_KEPT_CELLS(g), position = atf_load_relaxed64(&g->tail), deadline = 0;
    for (;;) {
        atf_cell *cell = atf_cell_at(g, position);
        uint64_t turn = atf_load_acquire64(&cell->turn); /* pairs with the drain's release: the cell is empty */
        if (turn == position && position - atf_load_relaxed64(&g->consumed) < room) {
            if (!atf_cas_acq_rel64(&g->tail, position, position + 1)) {
                position = atf_load_relaxed64(&g->tail);
                continue;
            }
            cell->seq = seq;
            cell->number = t->number;
            cell->tid = t->tid;
            cell->event = *e;
            atf_store_release64(&cell->turn, position + 1); /* pairs with the drain's acquire of turn */
            return 1;
        }
        if (turn <= position) { /* full */
            uint64_t now = wait_ns ? atf_clock_ns(CLOCK_MONOTONIC) : 0;
            if (wait_ns && !deadline) deadline = now + wait_ns;
            if (now >= deadline || !(c->policy == ATF_BLOCK ? worth_waiting(c) : !drain_silent(c)) || atf_load_acquire32(&c->state) != ATF_STATE_RECORDING) return 0;
            struct timespec nap = {0, 20000};
            nanosleep(&nap, NULL);
        }
        position = atf_load_relaxed64(&g->tail);
    }
}
#endif
