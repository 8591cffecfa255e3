/* Slow paths of the record path: a thread's registration, ring swaps, the global lane, a thread's end. */
#include "cells.h"
#include "heartbeat.h"
#include "joint.h"
#include "lane.h"
#include "recycle.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

_Thread_local atf_thread *atf_self __attribute__((tls_model("initial-exec"), visibility("hidden")));
void (*atf_thread_started)(atf_thread *t);
void (*atf_thread_named)(atf_thread *t);
void (*atf_session_stopped)(void);
void (*atf_level_changed)(atf_thread *t, uint32_t level);
atf_session atf_current;

/* All threads of this process that ever wrote, so that a session's end can retire them. */
static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static atf_thread *threads;
static pthread_key_t exit_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A retired thread's gate: never equal to its gate_seen, so that every event takes the slow path. */
static const uint32_t closed_gate = 0;
#define CLOSED_SEEN 1u
#define NAME_TRIES 4u
#define END_WAIT_NS 50000000u

static void once_init(void)
{
    pthread_key_create(&exit_key, atf_thread_exit);
    pthread_atfork(NULL, NULL, atf_session_forked);
}

static uint32_t os_tid(void)
{
#ifdef SYS_gettid
    return (uint32_t)syscall(SYS_gettid);
#else
    uint64_t id;
    pthread_threadid_np(NULL, &id);
    return (uint32_t)id;
#endif
}

void atf_thread_close_gate(atf_thread *t)
{
    t->gate = &closed_gate;
    t->gate_seen = CLOSED_SEEN;
}

static void retire(atf_thread *t)
{
    t->live = 0;
    atf_thread_close_gate(t);
    t->cursor = t->end = NULL;
    t->detail_cursor = t->detail_end = NULL;
    t->slot = NULL;
}

/* ---------------------------------------------------------------- slots */
static void prefault(void *start, uint64_t bytes)
{
#ifdef MADV_POPULATE_WRITE
    if (madvise(start, bytes, MADV_POPULATE_WRITE) == 0) return;
#endif
    for (uint64_t i = 0; i < bytes; i += 4096) ((volatile char *)start)[i] = 0;
}

static atf_slot *find_slot(atf_registry *reg)
{
    for (uint32_t i = 0; i < reg->capacity; i++) {
        atf_slot *s = atf_slot_at(reg, i);
        /* The acquire pairs with the drain's release when it frees a drained slot. */
        if (atf_load_relaxed32(&s->state) == ATF_SLOT_FREE && atf_cas_acq_rel32(&s->state, ATF_SLOT_FREE, ATF_SLOT_CLAIMED)) return s;
    }
    return atf_current.control->drain_expected ? NULL : atf_slot_recycle(reg);
}

static int claim_slot(atf_thread *t)
{
    atf_registry *reg = atf_current.registry;
    atf_slot *s = find_slot(reg);
    if (!s) return 0;
    atf_store_relaxed32(&s->pid, (uint32_t)getpid());
    atf_store_relaxed32(&s->tid, t->tid);
    atf_store_relaxed32(&s->number, t->number); /* before its rings are ACTIVE: who holds one knows by it whose it is */
    atf_store_relaxed32(&s->entered, 0);
    atf_store_relaxed64(&s->next_seq, 0);
    atf_store_relaxed64(&s->lost_newest, 0);
    atf_store_relaxed64(&s->details_lost, 0);
    atf_store_relaxed64(&s->taken_back, 0);
    atf_store_relaxed64(&s->blocked_ns, 0);
    atf_store_relaxed64(&s->begun_ticks, t->seq_base + t->count ? 0 : atf_ticks(t->clock_type));
    atf_store_relaxed64(&s->exited_ticks, 0);
    atf_slot_name_put(s, "", 0);
    if (!s->prefaulted) {
        prefault((char *)atf_current.global + s->index[0].offset, reg->index_rings * reg->index_bytes);
        s->prefaulted = 1;
    }
    t->slot = s;
    atf_store_release32(&s->state, ATF_SLOT_LIVE); /* pairs with the drain's acquire: the fields above */
    return 1;
}

static void register_thread(atf_thread *t)
{
    atf_registry *reg = atf_current.registry;
    atf_control *control = atf_current.control;
    memset(t, 0, offsetof(atf_thread, next));
    t->tid = os_tid();
    t->clock_type = control->clock_type;
    t->number = atf_add_acq_rel32(&reg->thread_counter, 1);
    t->index_ring = t->detail_ring = ATF_NO_RING;
    t->gate = &control->gate;
    t->retry_at = 4096;
    t->unnamed = NAME_TRIES;
    t->level = control->level;
    if (!claim_slot(t)) atf_add_relaxed64(&control->slotless_threads, 1);
    t->live = 1;
}

/* The calling thread's, which had none. */
atf_thread *atf_thread_new(void)
{
    atf_thread *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    pthread_mutex_lock(&threads_lock);
    t->next = threads;
    threads = t;
    pthread_mutex_unlock(&threads_lock);
    pthread_setspecific(exit_key, t);
    return atf_self = t;
}

atf_thread *atf_enter_slow(void)
{
    atf_control *control = atf_current.control;
    if (!control) return NULL;
    uint32_t gate = atf_load_acquire32(&control->gate); /* pairs with Segments.stop: state is at least that new */
    if (atf_load_acquire32(&control->state) != ATF_STATE_RECORDING) {
        void (*stopped)(void) = atf_session_stopped;
        atf_session_stopped = NULL;
        if (stopped) stopped();
        return NULL;
    }
    atf_thread *t = atf_self;
    if (atf_joint_now) return atf_joint_enter(t);
    int fresh = !t || !t->live;
    if (!t && !(t = atf_thread_new())) return NULL;
    if (fresh) register_thread(t);
    t->gate_seen = gate;
    if (t->unnamed && atf_thread_named) {
        t->unnamed--;
        atf_thread_named(t);
        if (!t->slot || t->slot->name[0]) t->unnamed = 0;
    }
    uint32_t level = atf_load_relaxed32(&control->level_wanted); /* behind the acquire of gate, whose add follows the store */
    if (level && level != t->level && atf_level_changed) {
        atf_level_changed(t, level);
        t->level = level;
    }
    if (fresh && atf_thread_started) atf_thread_started(t);
    if (t->unnamed) t->gate_seen = gate - 1; /* the next event comes this way again */
    return t;
}

/* ---------------------------------------------------------------- index lane */
static void activate(atf_thread *t, const atf_lane *lane, uint32_t i, uint64_t seq)
{
    atf_ring *r = atf_lane_ring(lane, i);
    atf_ring_activate(r, seq);
    t->index_ring = i;
    t->cursor = (atf_event *)((char *)atf_current.global + r->offset);
    t->end = t->cursor + r->capacity;
    t->head = &r->head;
    t->count = 0;
    t->seq_base = seq;
}

/* One of the lane's own, else a spare one, unless nobody reads what is there. */
static uint32_t next_free(const atf_lane *lane, const atf_control *c)
{
    uint32_t i = atf_lane_find_free(lane);
    if (i == ATF_NO_RING && c->drain_expected && !silent_for(c, ATF_DRAIN_SILENT_NS)) i = atf_lane_borrow(lane);
    return i;
}

/* Waits for a ring under the block policy; ATF_NO_RING at the deadline or when the session stops. */
static uint32_t wait_free(atf_thread *t, const atf_lane *lane)
{
    atf_control *c = atf_current.control;
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC), waited = 0;
    uint32_t i = ATF_NO_RING;
    while (i == ATF_NO_RING && waited < c->block_deadline_ns && worth_waiting(c) && atf_load_acquire32(&c->state) == ATF_STATE_RECORDING) {
        struct timespec nap = {0, 20000};
        nanosleep(&nap, NULL);
        i = next_free(lane, c);
        waited = atf_clock_ns(CLOCK_MONOTONIC) - start;
    }
    atf_count64(&t->slot->blocked_ns, waited);
    return i;
}

/* The ACTIVE ring is the drain's. */
static void leave_ring(atf_thread *t, uint64_t seq)
{
    atf_lane lane = atf_index_lane(atf_current.registry, t->slot);
    atf_ring_hand_over(atf_lane_ring(&lane, t->index_ring));
    atf_add_acq_rel32(&t->slot->attention, 1);
    t->index_ring = ATF_NO_RING;
    t->cursor = t->end = NULL;
    t->seq_base = seq;
    t->count = 0;
}

/* Drop-oldest; what is dropped leaves a mark, by which a reader knows from when it was. The mark is there before the ring is gone. It is for
 * sessions without a drain, which lend no spare rings: what lies in one of these may be another thread's by now, and is not looked at. */
static uint32_t take_oldest(atf_slot *s, const atf_lane *lane)
{
    uint64_t k = atf_load_relaxed64(&s->taken_back);
    atf_mark *mark = &s->gone[k % ATF_MARKS];
    for (;;) {
        uint32_t i = atf_lane_oldest_full(lane);
        if (i == ATF_NO_RING) return i;
        atf_ring *r = atf_lane_ring(lane, i);
        uint64_t n = atf_load_relaxed64(&r->head);
        const atf_event *after = (const atf_event *)((const char *)atf_current.global + r->offset) + n;
        atf_store_relaxed64(&mark->ticks, n && i < ATF_MAX_RINGS ? after[-1].timestamp_ns : 0);
        atf_store_relaxed64(&mark->seq, atf_load_relaxed64(&r->first_seq) + n);
        if (!atf_lane_take(lane, i)) continue;
        atf_store_release64(&s->taken_back, k + 1); /* pairs with the acquire of who reads the marks */
        return i;
    }
}

int atf_next_ring(atf_thread *t)
{
    atf_control *c = atf_current.control;
    uint64_t seq = t->seq_base + t->count;
    if (!t->slot) {
        if (seq < t->retry_at || !claim_slot(t)) {
            if (seq >= t->retry_at) t->retry_at = seq + 4096;
            return 0;
        }
    }
    atf_slot *s = t->slot;
    atf_lane lane = atf_index_lane(atf_current.registry, s);
    if (t->index_ring != ATF_NO_RING) leave_ring(t, seq);
    atf_store_relaxed64(&s->next_seq, seq);
    uint32_t i = next_free(&lane, c);
    if (i == ATF_NO_RING && c->drain_expected && drain_silent(c)) {
        if (atf_cas_acq_rel32(&c->mode, ATF_MODE_PER_THREAD, ATF_MODE_GLOBAL)) atf_add_relaxed64(&c->mode_transitions, 1);
        if (!cells_full(atf_current.global)) return 0;
    }
    if (i == ATF_NO_RING && worth_waiting(c)) i = wait_free(t, &lane);
    if (i == ATF_NO_RING && (i = take_oldest(s, &lane)) == ATF_NO_RING) return 0; /* every ring is in the drain's hands */
    activate(t, &lane, i, seq);
    return 1;
}

/* ---------------------------------------------------------------- global lane */
void atf_write_global(atf_thread *t, const atf_event *e)
{
    if (atf_joint_now) {
        atf_joint_now->write(e);
        return;
    }
    atf_control *c = atf_current.control;
    uint64_t seq = t->seq_base + t->count;
    t->seq_base = seq + 1; /* the number is used up: a drop shows as a hole in the numbers */
    t->count = 0;
    if (put_cell(c, atf_current.global, t, seq, e, c->policy == ATF_BLOCK ? c->block_deadline_ns : 0, 0)) {
        atf_add_relaxed64(&c->fallback_events, 1);
        return;
    }
    atf_add_relaxed64(&atf_current.global->dropped, 1);
    if (t->slot) {
        atf_count64(&t->slot->lost_newest, 1);
        atf_store_relaxed64(&t->slot->next_seq, seq + 1);
    }
}

void atf_write_kept(atf_thread *t, const atf_event *e)
{
    if (atf_joint_now) {
        atf_joint_now->write(e);
        return;
    }
    atf_control *c = atf_current.control;
    uint64_t seq = t->seq_base + t->count;
    if (c->drain_expected) {
        if (t->index_ring != ATF_NO_RING) leave_ring(t, seq);
        if (put_cell(c, atf_current.global, t, seq, e, END_WAIT_NS, 1)) {
            t->seq_base = seq + 1;
            return;
        }
    }
    atf_write_at(t, e->timestamp_ns, e->event_kind, e->function_id, e->call_depth, e->detail_seq);
}

/* ---------------------------------------------------------------- detail lane */
uint8_t *atf_detail_slow(atf_thread *t, uint32_t bytes)
{
    atf_slot *s = t->slot;
    if (!s || atf_current.registry->detail_rings == 0) return NULL;
    atf_lane lane = atf_detail_lane(atf_current.registry, s);
    if (t->detail_ring != ATF_NO_RING) {
        atf_ring_hand_over(atf_lane_ring(&lane, t->detail_ring));
        atf_add_acq_rel32(&s->attention, 1);
        t->detail_ring = ATF_NO_RING;
        t->detail_cursor = t->detail_end = NULL;
    }
    atf_control *c = atf_current.control;
    uint32_t i = next_free(&lane, c);
    if (i == ATF_NO_RING && worth_waiting(c)) i = wait_free(t, &lane);
    if (i == ATF_NO_RING) i = atf_lane_take_oldest(&lane);
    if (i == ATF_NO_RING) return NULL;
    atf_ring *r = atf_lane_ring(&lane, i);
    atf_ring_activate(r, t->detail_seq);
    t->detail_ring = i;
    t->detail_cursor = (uint8_t *)atf_current.global + r->offset;
    t->detail_end = t->detail_cursor + r->capacity;
    t->detail_head = &r->head;
    t->detail_bytes = 0;
    return r->capacity >= bytes ? t->detail_cursor : NULL;
}

/* ---------------------------------------------------------------- begin and end */
void atf_session_open(atf_control *control, atf_registry *registry, atf_global_lane *global)
{
    pthread_once(&once, once_init);
    atf_current.registry = registry;
    atf_current.global = global;
    atf_current.serial++;
    atf_current.control = control;
}

/* The release of EXITED pairs with the drain's acquire: whatever the thread committed is visible then. */
static void leave_slot(atf_thread *t)
{
    if (!t->slot) {
        /* No slot tells how many records there were: a cell of kind 0 does, or drops at the end would be lost silently. */
        atf_event end = {atf_ticks(t->clock_type), 0, t->tid, 0, 0, ATF_NO_DETAIL};
        if (t->seq_base && atf_current.global) put_cell(atf_current.control, atf_current.global, t, t->seq_base, &end, END_WAIT_NS, 1);
        return;
    }
    atf_store_relaxed64(&t->slot->next_seq, t->seq_base + t->count);
    atf_store_relaxed64(&t->slot->exited_ticks, atf_ticks(t->clock_type));
    atf_store_release32(&t->slot->state, ATF_SLOT_EXITED);
    atf_add_acq_rel32(&t->slot->attention, 1);
}

void atf_session_close(void)
{
    pthread_mutex_lock(&threads_lock);
    for (atf_thread *t = threads; t; t = t->next) {
        if (t->live) leave_slot(t);
        retire(t);
    }
    atf_current.control = NULL;
    atf_current.registry = NULL;
    atf_current.global = NULL;
    if (atf_joint_now) atf_joint_forget();
    pthread_mutex_unlock(&threads_lock);
}

void atf_session_forked(void)
{
    pthread_mutex_init(&threads_lock, NULL); /* whoever held it does not exist here */
    atf_current.control = NULL;
    atf_current.registry = NULL;
    atf_current.global = NULL;
    if (atf_joint_now) atf_joint_forget();
    threads = atf_self; /* the others' memory is left: it is the parent's copy, and small */
    if (atf_self) {
        atf_self->next = NULL;
        retire(atf_self);
    }
}

void atf_thread_exit(void *thread)
{
    atf_thread *t = thread;
    pthread_mutex_lock(&threads_lock);
    if (t->live) leave_slot(t);
    for (atf_thread **p = &threads; *p; p = &(*p)->next)
        if (*p == t) {
            *p = t->next;
            break;
        }
    pthread_mutex_unlock(&threads_lock);
    if (atf_self == t) atf_self = NULL;
    free(t);
}
