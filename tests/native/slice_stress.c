/* Many threads through small rings that nobody drains, while others cut slices out of them, and a check of every slice.
 *
 *   slice_stress DIR [key=value ...]
 *
 * FORBIDDEN in a slice: a record twice, out of order, outside of the stretch, or that was never produced; a record missing between two
 * others without a GAP; a link between event and detail that holds one way only; `overwritten` 0 though a record of the stretch
 * is missing in front, or more than are missing (but 1, which stands for nobody knows). FORBIDDEN for the producers, with four rings and at most two readers: a record
 * or detail that found no ring.
 *
 * Exit status 0: no forbidden outcome. */
#include "check.h"
#include "cells.h"
#include "producer.h"
#include "session.h"
#include "slice.h"
#include <pthread.h>

enum { LIVES_MAX = 4096 };
static struct {
    uint64_t threads, lives, records, slots, index_rings, index_kib, detail_rings, detail_kib, cells, details, readers, pace, seed;
} with = {4, 8, 20000, 64, 4, 4, 4, 16, 64, 5, 2, 20000, 1};
static const struct { const char *key; uint64_t *value; } keys[] = {
    {"threads", &with.threads}, {"lives", &with.lives}, {"records", &with.records}, {"slots", &with.slots}, {"index_rings", &with.index_rings},
    {"index_kib", &with.index_kib}, {"detail_rings", &with.detail_rings}, {"detail_kib", &with.detail_kib}, {"cells", &with.cells},
    {"details", &with.details}, {"readers", &with.readers}, {"pace", &with.pace}, {"seed", &with.seed},
};
static life lives[LIVES_MAX];
static uint64_t *ticks_of[LIVES_MAX]; /* of each record, written before it */
static uint32_t lives_begun, over;
static session s;
static uint64_t cuts, seen, gaps, first_gaps, unknown;

static int as_produced(const life *l, uint64_t k, const atf_event *e)
{
    (void)l;
    return e->event_kind == ATF_INSTANT && e->call_depth == (uint32_t)k % 1000;
}

static void *one_life(void *arg)
{
    life *l = arg;
    uint8_t payload[4096 + 96];
    uint64_t random = mix(with.seed << 32 | l->id), wanted = with.records / 2 + random % (with.records + 1);
    ticks_of[l->id] = calloc(wanted, sizeof(uint64_t));
    for (uint64_t k = 0; k < wanted; k++) {
        atf_thread *t = atf_enter();
        if (!t) exit(3);
        uint64_t id = (uint64_t)l->id << 32 | k, ticks = atf_ticks(t->clock_type);
        uint32_t detail = ATF_NO_DETAIL;
        if (has_detail(id, (uint32_t)with.details)) detail = atf_detail(t, ATF_D_EVENT, payload, detail_of(id, payload), ticks);
        ticks_of[l->id][k] = ticks;
        atf_write_at(t, ticks, ATF_INSTANT, id, (uint32_t)k % 1000, detail);
        random = mix(random + k);
        if (random % with.pace == 0) {
            struct timespec nap = {0, (long)(random >> 32 & 0xFFFFF)};
            nanosleep(&nap, NULL);
        }
    }
    __atomic_store_n(&l->produced, wanted, __ATOMIC_RELEASE);
    return NULL;
}

static void *place(void *arg)
{
    (void)arg;
    for (uint64_t i = 0; i < with.lives; i++) {
        uint32_t id = __atomic_fetch_add(&lives_begun, 1, __ATOMIC_RELAXED);
        lives[id].id = id;
        pthread_t thread;
        if (pthread_create(&thread, NULL, one_life, &lives[id]) != 0) exit(2);
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void check_detail(const atf_cut_thread *t, const atf_event *e, uint64_t i, uint64_t *at, uint64_t *details)
{
    uint8_t wanted[4096 + 96];
    uint32_t bytes = detail_of(e->function_id, wanted);
    atf_detail_record r;
    if (!t->detail || *at + sizeof r > 64 + t->detail_bytes) {
        FORBIDDEN("thread %u: event %lu links to detail %u, which is not there", t->number, i, e->detail_seq);
        return;
    }
    memcpy(&r, t->detail + *at, sizeof r);
    if (e->detail_seq != *details || r.index_seq != i || !has_detail(e->function_id, (uint32_t)with.details))
        FORBIDDEN("thread %u: a link that holds one way only: event %lu -> detail %u, detail %lu -> event %u", t->number, i, e->detail_seq, *details, r.index_seq);
    else if (r.total_length != sizeof r + bytes || r.timestamp != e->timestamp_ns || memcmp(t->detail + *at + sizeof r, wanted, bytes) != 0)
        FORBIDDEN("thread %u: event %lu has the detail of another", t->number, i);
    *at += r.total_length;
    ++*details;
}

/* What the slice says is missing in front of record k, which it begins with. */
static void check_front(atf_cutter *c, const atf_cut_thread *t, uint32_t id, uint64_t k, uint64_t missing, uint64_t start_ns)
{
    if (missing > k) FORBIDDEN("thread %u: %lu overwritten in front of record %lu", t->number, missing, k);
    else if (missing == 1 && k && atf_to_ns(&c->scale, ticks_of[id][k - 1]) < start_ns) __atomic_fetch_add(&unknown, 1, __ATOMIC_RELAXED);
    else if (missing > 1 && atf_to_ns(&c->scale, ticks_of[id][k - missing]) < start_ns) FORBIDDEN("thread %u: overwritten %lu is too much", t->number, missing);
    else if (!missing && k && atf_to_ns(&c->scale, ticks_of[id][k - 1]) >= start_ns) FORBIDDEN("thread %u: record %lu is missing in front, overwritten is 0", t->number, k - 1);
}

static void check_thread(atf_cutter *c, const atf_cut_thread *t, uint64_t start_ns, uint64_t end_ns)
{
    uint64_t last_ns = 0, next = UINT64_MAX, at = 64, details = 0, missing = 0, n = 0;
    uint32_t id = UINT32_MAX;
    for (uint64_t i = 0; i < t->events; i++) {
        atf_event e;
        memcpy(&e, t->index + 64 + i * sizeof e, sizeof e);
        if (e.timestamp_ns < last_ns) FORBIDDEN("thread %u: time goes backwards at %lu", t->number, i);
        last_ns = e.timestamp_ns;
        if (e.event_kind == ATF_GAP) {
            if (next == UINT64_MAX) missing += e.function_id, __atomic_fetch_add(&first_gaps, 1, __ATOMIC_RELAXED);
            else next += e.function_id;
            __atomic_fetch_add(&gaps, 1, __ATOMIC_RELAXED);
            continue;
        }
        uint64_t k = e.function_id & 0xFFFFFFFFu;
        if (next == UINT64_MAX) {
            id = (uint32_t)(e.function_id >> 32);
            next = k;
            check_front(c, t, id, k, missing, start_ns);
        }
        if (e.function_id >> 32 != id || e.thread_id != t->tid || !as_produced(&lives[id], k, &e)) FORBIDDEN("thread %u: an invented record at %lu: %lx", t->number, i, e.function_id);
        else if (k != next) FORBIDDEN("thread %u: record %lu follows %lu without a GAP", t->number, k, next - 1);
        if (e.timestamp_ns < start_ns || e.timestamp_ns > end_ns) FORBIDDEN("thread %u: record %lu is outside of the stretch", t->number, k);
        next = k + 1;
        n++;
        if (e.detail_seq != ATF_NO_DETAIL) check_detail(t, &e, i, &at, &details);
    }
    if (t->details != details || at != 64 + t->detail_bytes) FORBIDDEN("thread %u: details that no event links to", t->number);
    if (t->events && memcmp(t->index + 64 + t->events * 32, "2ITA", 4) != 0) FORBIDDEN("thread %u: no footer", t->number);
    __atomic_fetch_add(&seen, n, __ATOMIC_RELAXED);
}

/* The first reader is the owner, who tidies the lane and leads the clock; the others are as in another process. */
static void *reader(void *arg)
{
    uint64_t me = (uint64_t)(uintptr_t)arg, random = mix(with.seed + 77 * me);
    atf_cutter c;
    atf_cutter_open(&c, s.control, s.registry, s.lane, 0);
    if (!me) atf_cutter_lead(&c);
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        if (me) atf_cutter_follow(&c);
        else atf_cutter_tidy(&c);
        uint64_t now = me ? atf_to_ns(&c.scale, atf_ticks(s.control->clock_type)) : atf_cutter_now(&c);
        random = mix(random + now);
        uint64_t back = random % 8 == 0 ? now : random % (1u << (10 + random / 8 % 14)), start = now - back, end = random % 3 ? now : start + back / 2;
        atf_cut cut;
        if (atf_cut_take(&c, &cut, start, end, random % 11 == 0 ? 100000 : 0) != 0) exit(4);
        for (uint32_t i = 0; i < cut.n; i++) {
            if (i && cut.threads[i].number <= cut.threads[i - 1].number) FORBIDDEN("thread %u twice in a slice", cut.threads[i].number);
            if (random % 11) check_thread(&c, &cut.threads[i], start, end);
        }
        atf_cut_free(&cut);
        __atomic_fetch_add(&cuts, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    for (int i = 2; i < argc; i++) {
        size_t k = 0, n = sizeof keys / sizeof *keys;
        char *equals = strchr(argv[i], '=');
        while (k < n && (!equals || strlen(keys[k].key) != (size_t)(equals - argv[i]) || strncmp(keys[k].key, argv[i], strlen(keys[k].key)) != 0)) k++;
        if (k == n) return fprintf(stderr, "unknown: %s\n", argv[i]), 2;
        *keys[k].value = strtoull(equals + 1, NULL, 0);
    }
    if (with.threads * with.lives > LIVES_MAX || with.threads > 64 || with.readers > 8) return 2;
    atf_geometry g = {(uint32_t)with.slots, (uint32_t)with.index_rings, (uint32_t)with.detail_rings, 0, with.index_kib << 10, with.detail_kib << 10, 4096, with.cells, 4096};
    s = session_new(&g, ATF_DROP_OLDEST, 1000);
    s.control->drain_expected = 0;
    atf_session_open(s.control, s.registry, s.lane);
    pthread_t threads[64], readers[8];
    for (uint64_t i = 0; i < with.readers; i++) pthread_create(&readers[i], NULL, reader, (void *)(uintptr_t)i);
    for (uint64_t i = 0; i < with.threads; i++) pthread_create(&threads[i], NULL, place, NULL);
    for (uint64_t i = 0; i < with.threads; i++) pthread_join(threads[i], NULL);
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (uint64_t i = 0; i < with.readers; i++) pthread_join(readers[i], NULL);
    uint64_t produced = 0, refused = 0, taken = 0;
    for (uint32_t i = 0; i < lives_begun; i++) produced += lives[i].produced;
    for (uint32_t i = 0; i < with.slots; i++) {
        const atf_slot *slot = atf_slot_at(s.registry, i);
        refused += slot->lost_newest + slot->details_lost;
        taken += slot->taken_back;
    }
    int room = with.index_rings >= 4 && with.detail_rings >= 4 && with.readers <= 2 && with.slots >= with.threads * with.lives;
    if (room && (refused || s.lane->tail)) FORBIDDEN("%lu records and details found no ring, %lu went to the lane", refused, s.lane->tail);
    if (room && (!cuts || unknown > cuts / 20)) FORBIDDEN("%lu slices were taken, of %lu fronts nobody knows", cuts, unknown);
    atf_session_close();
    printf("produced %lu cuts %lu seen %lu gaps %lu in front %lu unknown %lu taken back %lu bygone %u refused %lu lane %lu dropped %lu checksum %016lx\n", produced, cuts, seen,
           gaps, first_gaps, unknown, taken, s.registry->bygone, refused, s.lane->tail, s.lane->dropped, mix(produced));
    for (uint32_t i = 0; i < lives_begun; i++) free(ticks_of[i]);
    session_free(&s);
    return failures != 0;
}
