/* Matches the calls and returns of one thread into spans, in one pass. The rules are in docs/format.md
 * ("Spans"). Never includes Python.h; allocates only when its stack or its pool grows. */
#ifndef ATF_SPANS_H
#define ATF_SPANS_H
#include "format.h"
#include "idmap.h"
#include <string.h>

enum atf_status { ATF_OK = 0, ATF_RAISED = 1, ATF_UNWOUND = 2, ATF_OPEN = 3, ATF_LOST = 4, ATF_UNTIMED = 5 };
#define ATF_NO_SEQ 0xFFFFFFFFu
#define ATF_NO_ROW 0xFFFFFFFFu
#define ATF_LONG 0xFFFFFFFFu /* a time of so many ns, or more */
#define ATF_DEPTH_MAX ((1u << 29) - 1)
#define ATF_RESUME_SEARCH 64 /* suspended spans of one function that a RESUME looks at, oldest first */

/* A span as the matcher leaves it; rows are in the order of the calls. Its start is the timestamp of call_seq, its end the
 * timestamp of end_seq (without one: the end of the trace), but never before its start. What does not fit, or is rare,
 * stands in lists of atf_exact. */
typedef struct atf_row {
    uint32_t call_seq, end_seq;
    uint32_t parent;   /* row of the same thread */
    uint32_t function; /* dense number */
    uint32_t place;    /* depth << 3 | status; depth 1: no parent */
    uint32_t children;
    uint32_t duration; /* ns from start to end, or ATF_LONG */
    uint32_t self;     /* ns, or ATF_LONG: see `long_selves` */
} atf_row;
_Static_assert(sizeof(atf_row) == 32, "half a cache line, never across two");

typedef struct atf_exact {
    uint64_t ns;
    uint32_t row, reserved;
} atf_exact;

typedef struct atf_exacts {
    atf_exact *items;
    uint32_t count, room;
} atf_exacts;

typedef struct atf_span_counts {
    uint64_t returns_without_call, yields_without_call, resumes_without_call, gaps, events_lost;
} atf_span_counts;

/* An open span that is on the stack: it runs, or waits for what it called. One cache line. */
typedef struct atf_frame {
    uint64_t id;         /* function id */
    uint64_t resumed_ns; /* start of its present stretch */
    uint64_t active_ns;  /* of the stretches before */
    uint64_t above_ns;   /* time that frames directly above took */
    uint64_t start_ns;
    uint32_t row;
    uint32_t function;   /* dense number */
    uint32_t depth;      /* of the span */
    uint32_t call_depth; /* as recorded; 0: not known */
    uint32_t gaps;       /* GAPs seen before it began */
    uint32_t same;       /* place + 1 of the next open frame of this function below; 0: none */
} atf_frame;
_Static_assert(sizeof(atf_frame) == 64, "one cache line");

/* A span that is suspended. */
typedef struct atf_suspended {
    atf_frame frame;
    uint64_t yield_ns;
    uint32_t yield_seq;
    uint32_t runner; /* row of the span below it in its last stretch, or ATF_NO_ROW */
    uint32_t free;   /* 1: nothing stands here */
    uint32_t older, newer; /* place + 1 of its neighbours of the same function; older also links the free entries */
} atf_suspended;

typedef struct atf_function {
    uint32_t open;           /* place + 1 of its nearest open frame on the stack */
    uint32_t oldest, newest; /* its suspended frames in the pool, place + 1 */
} atf_function;

typedef struct atf_matcher {
    atf_row *rows;
    uint32_t row_count, row_room;
    atf_exacts suspended;   /* active time, of spans whose active time is not their duration; as they ended */
    atf_exacts long_selves; /* self time, of rows whose `self` is ATF_LONG; as they ended */
    atf_span_counts counts;
    atf_idmap map; /* function id -> dense number; of one process */
    atf_function *functions;
    uint64_t *function_ids;
    uint32_t function_count, function_room;
    atf_frame *stack;
    atf_suspended *pool;
    uint32_t depth, stack_room, pool_used, pool_room, pool_free; /* pool_free: place + 1, linked by `older` */
    uint32_t gaps;    /* in this thread so far */
    uint32_t gap_seq;
    uint64_t gap_ns;  /* of the last one */
    uint64_t last_ns; /* of the event before */
    int backwards;    /* 1: some timestamp was smaller than the one before */
    int suspensions;  /* 1: some span was suspended */
    int failed;       /* 1: no memory, something is missing */
    int only_calls;   /* 1: ends of calls are not recorded at present */
    uint32_t seen;    /* events so far */
} atf_matcher;

static inline int atf_grow(void **memory, uint32_t *room, size_t item)
{
    uint32_t larger = *room ? *room * 2 : 256;
    void *p = larger > *room ? realloc(*memory, larger * item) : NULL;
    if (!p) return 0;
    *memory = p;
    *room = larger;
    return 1;
}

static inline uint64_t atf_since(uint64_t end, uint64_t start) { return end > start ? end - start : 0; }

/* The dense number of a function id; ATF_IDMAP_NONE: no memory. */
static inline uint32_t atf_function_number(atf_matcher *m, uint64_t id)
{
    uint32_t n = atf_idmap_get(&m->map, id);
    if (n != ATF_IDMAP_NONE) return n;
    if (m->function_count == m->function_room) {
        uint32_t room = m->function_room;
        if (!atf_grow((void **)&m->functions, &room, sizeof(atf_function))) return ATF_IDMAP_NONE;
        room = m->function_room;
        if (!atf_grow((void **)&m->function_ids, &room, sizeof(uint64_t))) return ATF_IDMAP_NONE;
        m->function_room = room;
    }
    n = m->function_count;
    if (!atf_idmap_put(&m->map, id, n)) return ATF_IDMAP_NONE;
    memset(&m->functions[n], 0, sizeof(atf_function));
    m->function_ids[n] = id;
    m->function_count++;
    return n;
}

/* Puts the frame that the caller has written at stack[depth] to work. */
static inline void atf_begin(atf_matcher *m, uint64_t t)
{
    atf_frame *f = &m->stack[m->depth];
    uint32_t *open = &m->functions[f->function].open;
    f->resumed_ns = t;
    f->same = *open;
    *open = ++m->depth;
}

static inline int atf_room(atf_matcher *m)
{
    return m->depth < m->stack_room || atf_grow((void **)&m->stack, &m->stack_room, sizeof(atf_frame));
}

/* Takes the top frame off and books the stretch that ends now. It stays readable until the next one begins. */
static inline atf_frame *atf_pop(atf_matcher *m, uint64_t t)
{
    atf_frame *f = &m->stack[--m->depth];
    uint64_t stretch = atf_since(t, f->resumed_ns);
    f->active_ns += stretch;
    m->functions[f->function].open = f->same;
    if (m->depth) f[-1].above_ns += stretch;
    return f;
}

static inline void atf_keep(atf_matcher *m, atf_exacts *list, uint32_t row, uint64_t ns)
{
    if (list->count == list->room && !atf_grow((void **)&list->items, &list->room, sizeof(atf_exact))) m->failed = 1;
    else list->items[list->count++] = (atf_exact){ns, row, 0};
}

static inline void atf_end(atf_matcher *m, const atf_frame *f, uint64_t t, uint32_t seq, uint32_t status)
{
    atf_row *row = &m->rows[f->row];
    uint64_t duration = atf_since(t, f->start_ns), self = atf_since(f->active_ns, f->above_ns);
    row->end_seq = seq;
    row->place |= f->gaps != m->gaps ? ATF_LOST : status;
    row->duration = duration < ATF_LONG ? (uint32_t)duration : ATF_LONG;
    row->self = self < ATF_LONG ? (uint32_t)self : ATF_LONG;
    if (f->active_ns != duration) atf_keep(m, &m->suspended, f->row, f->active_ns);
    if (self >= ATF_LONG) atf_keep(m, &m->long_selves, f->row, self);
}

static inline void atf_close_top(atf_matcher *m, uint64_t t, uint32_t seq, uint32_t status)
{
    atf_end(m, atf_pop(m, t), t, seq, status);
}

/* After a GAP, a frame that stands as deep as a new one, or deeper, has ended inside the GAP. */
static inline void atf_resync(atf_matcher *m, uint32_t call_depth)
{
    if (!m->gaps || !call_depth) return;
    while (m->depth) {
        const atf_frame *top = &m->stack[m->depth - 1];
        if (top->gaps == m->gaps || top->call_depth < call_depth) return;
        atf_close_top(m, m->gap_ns, m->gap_seq, ATF_LOST);
    }
}

/* While only calls are recorded: calls that stand at least so deep have ended, nobody knows when; at the earliest when the event before
 * was written. */
static inline void atf_close_deep(atf_matcher *m, uint32_t call_depth, uint64_t before_ns, uint32_t seq)
{
    while (m->depth && m->stack[m->depth - 1].call_depth >= call_depth) atf_close_top(m, before_ns, seq - 1, ATF_UNTIMED);
}

static inline int atf_open(atf_matcher *m, const atf_event *e, uint32_t seq)
{
    uint32_t n = atf_function_number(m, e->function_id);
    if (n == ATF_IDMAP_NONE || !atf_room(m)) return 0;
    if (m->row_count == m->row_room && !atf_grow((void **)&m->rows, &m->row_room, sizeof(atf_row))) return 0;
    atf_frame *f = &m->stack[m->depth];
    uint32_t parent = ATF_NO_ROW;
    f->depth = 1;
    if (m->depth) {
        parent = f[-1].row;
        f->depth = f[-1].depth < ATF_DEPTH_MAX ? f[-1].depth + 1 : ATF_DEPTH_MAX;
        m->rows[parent].children++;
    }
    f->row = m->row_count++;
    m->rows[f->row] = (atf_row){.call_seq = seq, .parent = parent, .function = n, .place = f->depth << 3};
    f->id = e->function_id;
    f->active_ns = f->above_ns = 0;
    f->start_ns = e->timestamp_ns;
    f->function = n;
    f->call_depth = e->call_depth;
    f->gaps = m->gaps;
    atf_begin(m, e->timestamp_ns);
    return 1;
}

/* The nearest open frame of the function of a RETURN, EXCEPTION or YIELD on top, everything above it unwound.
 * 0: there is none. After a GAP a shallower frame is not meant: the call that ends here was lost. */
static inline int atf_reach(atf_matcher *m, const atf_event *e, uint32_t seq)
{
    if (!m->depth) return 0;
    uint32_t at = m->depth; /* place + 1 */
    if (m->stack[at - 1].id != e->function_id) {
        uint32_t n = atf_idmap_get(&m->map, e->function_id);
        at = n == ATF_IDMAP_NONE ? 0 : m->functions[n].open;
        if (!at) return 0;
    }
    const atf_frame *f = &m->stack[at - 1];
    if (f->gaps != m->gaps && f->call_depth && f->call_depth < e->call_depth) return 0;
    while (m->depth > at) atf_close_top(m, e->timestamp_ns, seq, ATF_UNWOUND);
    return 1;
}

static inline int atf_suspend(atf_matcher *m, const atf_event *e, uint32_t seq)
{
    uint32_t at = m->pool_free; /* place + 1 */
    if (at) {
        m->pool_free = m->pool[at - 1].older;
    } else {
        if (m->pool_used == m->pool_room && !atf_grow((void **)&m->pool, &m->pool_room, sizeof(atf_suspended))) return 0;
        at = ++m->pool_used;
    }
    atf_suspended *one = &m->pool[at - 1];
    one->frame = *atf_pop(m, e->timestamp_ns);
    one->frame.call_depth = e->call_depth;
    atf_function *of = &m->functions[one->frame.function];
    one->yield_ns = e->timestamp_ns;
    one->yield_seq = seq;
    one->runner = m->depth ? m->stack[m->depth - 1].row : ATF_NO_ROW;
    one->free = 0;
    m->suspensions = 1;
    one->older = of->newest;
    one->newer = 0;
    if (of->newest) m->pool[of->newest - 1].newer = at;
    else of->oldest = at;
    of->newest = at;
    return 1;
}

/* Takes an entry out of the pool. It stays readable until the next one is suspended. */
static inline const atf_suspended *atf_unlink(atf_matcher *m, uint32_t at)
{
    atf_suspended *one = &m->pool[at - 1];
    atf_function *of = &m->functions[one->frame.function];
    if (one->older) m->pool[one->older - 1].newer = one->newer;
    else of->oldest = one->newer;
    if (one->newer) m->pool[one->newer - 1].older = one->older;
    else of->newest = one->older;
    one->older = m->pool_free;
    one->free = 1;
    m->pool_free = at;
    return one;
}

/* Which suspended span of a function a RESUME means; a record cannot say, so this is a choice:
 * the newest when the span that ran it last runs it again (a loop inside a loop), else the oldest that was
 * suspended at this depth (an event loop takes turns), else the newest. 0: none is suspended. */
static inline uint32_t atf_choose(const atf_matcher *m, const atf_event *e)
{
    uint32_t n = atf_idmap_get(&m->map, e->function_id);
    if (n == ATF_IDMAP_NONE || !m->functions[n].newest) return 0;
    uint32_t newest = m->functions[n].newest, at = m->functions[n].oldest;
    const atf_suspended *last = &m->pool[newest - 1];
    if (last->frame.call_depth == e->call_depth && m->depth && last->runner == m->stack[m->depth - 1].row) return newest;
    for (int i = 0; at && i < ATF_RESUME_SEARCH; i++, at = m->pool[at - 1].newer)
        if (m->pool[at - 1].frame.call_depth == e->call_depth) return at;
    return newest;
}

/* Another level from this event on. What is suspended now may have ended while nobody told: it is not to be resumed. */
static inline void atf_relevel(atf_matcher *m, const atf_event *e)
{
    int before = m->only_calls;
    m->only_calls = (e->function_id & 0xFF) == ATF_LEVEL_ONLY_CALLS;
    for (uint32_t at = 1; before && !m->only_calls && at <= m->pool_used; at++) {
        if (m->pool[at - 1].free) continue;
        const atf_suspended *one = atf_unlink(m, at);
        atf_end(m, &one->frame, one->yield_ns, one->yield_seq, ATF_UNTIMED);
    }
}

/* A new thread. Its process's functions keep their numbers. */
static inline void atf_match_start(atf_matcher *m)
{
    for (uint32_t n = 0; n < m->function_count; n++) memset(&m->functions[n], 0, sizeof(atf_function));
    m->row_count = m->suspended.count = m->long_selves.count = 0;
    m->depth = m->pool_used = m->pool_free = m->gaps = 0;
    m->last_ns = 0;
    m->backwards = m->suspensions = m->failed = m->only_calls = 0;
}

/* Its next events, those at [from, to). 0: no memory. */
static inline int atf_match_some(atf_matcher *m, const atf_event *events, uint64_t from, uint64_t to)
{
    uint64_t last_ns = m->last_ns;
    int backwards = m->backwards;
    for (uint64_t i = from; i < to; i++) {
        const atf_event *e = &events[i];
        uint32_t seq = (uint32_t)i, at;
        if (m->only_calls && e->event_kind <= ATF_RESUME)
            atf_close_deep(m, e->call_depth + (e->event_kind != ATF_CALL && e->event_kind != ATF_RESUME), last_ns, seq);
        backwards |= e->timestamp_ns < last_ns;
        last_ns = e->timestamp_ns;
        switch (e->event_kind) {
        case ATF_CALL:
            atf_resync(m, e->call_depth);
            if (!atf_open(m, e, seq)) return 0;
            break;
        case ATF_RETURN:
        case ATF_EXCEPTION:
            if (atf_reach(m, e, seq)) atf_close_top(m, e->timestamp_ns, seq, e->event_kind == ATF_RETURN ? ATF_OK : ATF_RAISED);
            else m->counts.returns_without_call++;
            break;
        case ATF_YIELD:
            if (!atf_reach(m, e, seq)) m->counts.yields_without_call++;
            else if (!atf_suspend(m, e, seq)) return 0;
            break;
        case ATF_RESUME:
            atf_resync(m, e->call_depth);
            at = atf_choose(m, e);
            if (at) {
                if (!atf_room(m)) return 0;
                m->stack[m->depth] = atf_unlink(m, at)->frame;
                m->stack[m->depth].call_depth = e->call_depth;
                atf_begin(m, e->timestamp_ns);
            } else {
                /* Begun on another thread, or before recording began: what runs here is a span of its own. */
                m->counts.resumes_without_call++;
                if (!atf_open(m, e, seq)) return 0;
            }
            break;
        case ATF_INSTANT:
            if (atf_tells_level(e)) atf_relevel(m, e);
            break;
        case ATF_GAP:
            m->gaps++;
            m->gap_ns = e->timestamp_ns;
            m->gap_seq = seq;
            m->counts.gaps++;
            if (e->call_depth < ATF_GAP_UNKEPT) m->counts.events_lost += e->function_id;
            break;
        }
    }
    m->last_ns = last_ns;
    m->backwards = backwards;
    m->seen = (uint32_t)to;
    return !m->failed;
}

/* Ends what is open. 0: no memory. */
static inline int atf_match_end(atf_matcher *m, uint64_t trace_end_ns)
{
    if (m->only_calls) atf_close_deep(m, 0, m->last_ns, m->seen);
    while (m->depth) atf_close_top(m, trace_end_ns, ATF_NO_SEQ, ATF_OPEN);
    for (uint32_t at = 1; at <= m->pool_used; at++) {
        if (m->pool[at - 1].free) continue;
        const atf_suspended *one = atf_unlink(m, at);
        atf_end(m, &one->frame, one->yield_ns, one->yield_seq, ATF_OPEN);
    }
    return !m->failed;
}

static inline void atf_match_free(atf_matcher *m)
{
    atf_idmap_free(&m->map);
    free(m->rows);
    free(m->suspended.items);
    free(m->long_selves.items);
    free(m->functions);
    free(m->function_ids);
    free(m->stack);
    free(m->pool);
}
#endif
