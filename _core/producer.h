/* The record path of producers in this process. Every producer (VM hooks, atf.span, atf.event) does
 *
 *     atf_thread *t = atf_enter();          // NULL: nothing is being recorded
 *     if (t) atf_write(t, ATF_CALL, function_id, ++t->depth, ATF_NO_DETAIL);
 *
 * Producers hold the GIL, which is what lets stop() retire every atf_thread at once. Never includes Python.h. */
#ifndef ATF_PRODUCER_H
#define ATF_PRODUCER_H
#include "clock.h"
#include "layout.h"

#define ATF_DETAIL_MAX 8192 /* payload bytes of one detail */

/* What a thread keeps for itself: pointers materialized from the offsets in shared memory. */
typedef struct atf_thread {
    atf_event *cursor, *end;    /* next record, end of the ACTIVE index ring; equal: none at hand */
    uint64_t *head;             /* where the committed count is published */
    uint64_t count;             /* records in the ACTIVE ring */
    const uint32_t *gate;       /* the session's gate; differs from gate_seen: take the slow path */
    uint32_t gate_seen;
    uint32_t tid;
    uint32_t depth;             /* recorded calls in progress; VM hooks and spans keep it */
    uint32_t clock_type;
    uint64_t seq_base;          /* number of the ACTIVE ring's first record; next number = seq_base + count */
    uint8_t *detail_cursor, *detail_end;
    uint64_t *detail_head;
    uint64_t detail_bytes;      /* committed in the ACTIVE detail ring */
    uint64_t detail_seq;        /* number of the next detail */
    uint32_t index_ring, detail_ring; /* numbers in their lanes; ATF_NO_RING: none is ACTIVE */
    uint32_t number;
    uint32_t live;
    uint32_t unnamed;           /* how many more events look for the thread's name */
    uint32_t level;             /* what it records, as its lane was told */
    atf_slot *slot;             /* NULL: no slot was free, the global lane is used */
    uint64_t retry_at;          /* without a slot: try again at this number */
    struct atf_thread *next;    /* list of all, under the registration lock */
    void *user;                 /* the VM hooks' own */
} atf_thread;

extern _Thread_local atf_thread *atf_self __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Called once in a thread's life in a session, by the thread itself, right after it was registered and
 * before its first record: the VM hooks write the calls in progress here. */
extern void (*atf_thread_started)(atf_thread *t);

/* Called before it, and at the next events while the slot has no name: fills it in. A thread's very first frame,
 * from which its name is known, may not be in place at its first event. */
extern void (*atf_thread_named)(atf_thread *t);

/* Called once, at the first event after the recording was ended from outside, when nothing is written any more: the VM hooks
 * arrange that they are taken out. */
extern void (*atf_session_stopped)(void);

/* Called at a thread's first event after the recorder asked for another level, before anything of that level is written. */
extern void (*atf_level_changed)(atf_thread *t, uint32_t level);

/* Slow paths, in producer.c. */
atf_thread *atf_enter_slow(void);
int atf_next_ring(atf_thread *t);            /* 1: a ring is ACTIVE; 0: write through atf_write_global */
void atf_write_global(atf_thread *t, const atf_event *e); /* the number is consumed even when it is dropped */
/* For a record that is never dropped: past the rings, into cells that are kept for these. Its thread begins a new ring after it. */
void atf_write_kept(atf_thread *t, const atf_event *e);
uint8_t *atf_detail_slow(atf_thread *t, uint32_t bytes);  /* NULL: no room; counted */

/* The only check per event: one relaxed load of the gate. It pairs with the release add of Segments.stop;
 * what changed is read behind an acquire load on the slow path. */
static inline atf_thread *atf_enter(void)
{
    atf_thread *t = atf_self;
    if (ATF_UNLIKELY(!t || atf_load_relaxed32(t->gate) != t->gate_seen)) return atf_enter_slow();
    return t;
}

/* Fills the slot in place, then publishes it. */
static inline void atf_event_put(atf_thread *t, atf_event *e, uint64_t ticks, uint32_t kind, uint64_t function_id, uint32_t depth, uint32_t detail)
{
    e->timestamp_ns = ticks;
    e->function_id = function_id;
    e->thread_id = t->tid;
    e->event_kind = kind;
    e->call_depth = depth;
    e->detail_seq = detail;
    t->cursor = e + 1;
    atf_store_release64(t->head, ++t->count); /* pairs with the drain's acquire load of head */
}

static inline void atf_write_at(atf_thread *t, uint64_t ticks, uint32_t kind, uint64_t function_id, uint32_t depth, uint32_t detail)
{
    atf_event *e = t->cursor;
    if (ATF_UNLIKELY(e == t->end)) {
        if (!atf_next_ring(t)) {
            atf_event one = {ticks, function_id, t->tid, kind, depth, detail};
            atf_write_global(t, &one);
            return;
        }
        e = t->cursor;
    }
    atf_event_put(t, e, ticks, kind, function_id, depth, detail);
}

static inline void atf_write(atf_thread *t, uint32_t kind, uint64_t function_id, uint32_t depth, uint32_t detail)
{
    atf_write_at(t, atf_ticks(t->clock_type), kind, function_id, depth, detail);
}

/* Publishes one detail for the record that is written next, and returns its number for that record's
 * detail_seq; ATF_NO_DETAIL when there was no room. A detail longer than ATF_DETAIL_MAX is refused. */
uint32_t atf_detail(atf_thread *t, uint16_t type, const void *payload, uint32_t bytes, uint64_t ticks);

/* Appends a name to the session's names log. Needs the GIL. 0: no room (counted) or no session. */
int atf_name_put(uint32_t kind, uint64_t id, uint32_t line, const char *name, size_t name_bytes, const char *file, size_t file_bytes);

/* The session of this process: pointers to the three segments, or NULL. */
typedef struct atf_session {
    atf_control *control;
    atf_registry *registry;
    atf_global_lane *global;
    uint32_t serial; /* counts sessions of this process; 0: none yet. VM hooks compare it to know a stale id */
} atf_session;
extern atf_session atf_current;

void atf_session_open(atf_control *control, atf_registry *registry, atf_global_lane *global);
void atf_session_close(void);   /* retires every thread; the segments may be detached afterwards */
void atf_session_forked(void);  /* in a forked child: forgets the parent's session and threads */
void atf_thread_exit(void *thread); /* releases the calling thread's slot */
#endif
