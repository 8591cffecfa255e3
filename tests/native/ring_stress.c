/* Many threads through small rings, the drain beside them, and a check of every file at the end.
 *
 *   ring_stress DIR [key=value ...]
 *
 * FORBIDDEN, under any policy: a record is in the files twice, or out of order, or was never produced; a record is
 * missing and no GAP stands in its place; a link between event and detail holds one way only; written + lost differs
 * from produced. FORBIDDEN under `block` too: anything lost at all, a detail included.
 *
 * The same sources as the library, no Python, one process, heap memory: what ThreadSanitizer needs. Exit status 0: no
 * forbidden outcome; the last line ends in a checksum over all records, written and lost, which was also computed
 * from what the threads produced. */
#include "check.h"
#include "engine.h"
#include "producer.h"
#include "session.h"
#include <pthread.h>

enum { LIVES_MAX = 65536 };
static struct {
    uint64_t block, threads, lives, records, slots, index_rings, index_kib, detail_rings, detail_kib, cells, details, stalls, stall_ms, flush_us, pace, seed,
        spare_rings, spare_kib;
} with = {0, 4, 8, 20000, 3, 4, 4, 2, 16, 64, 5, 0, 900, 500, 20000, 1, 0, 16};
static const struct { const char *key; uint64_t *value; } keys[] = {
    {"block", &with.block}, {"threads", &with.threads}, {"lives", &with.lives}, {"records", &with.records}, {"slots", &with.slots},
    {"index_rings", &with.index_rings}, {"index_kib", &with.index_kib}, {"detail_rings", &with.detail_rings}, {"detail_kib", &with.detail_kib},
    {"cells", &with.cells}, {"details", &with.details}, {"stalls", &with.stalls}, {"stall_ms", &with.stall_ms}, {"flush_us", &with.flush_us}, {"pace", &with.pace}, {"seed", &with.seed},
    {"spare_rings", &with.spare_rings}, {"spare_kib", &with.spare_kib},
};
static life lives[LIVES_MAX];
static uint32_t lives_begun;

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
    for (uint64_t k = 0; k < wanted; k++) {
        atf_thread *t = atf_enter();
        if (!t) exit(3);
        uint64_t id = (uint64_t)l->id << 32 | k, ticks = atf_ticks(t->clock_type);
        uint32_t detail = ATF_NO_DETAIL;
        if (has_detail(id, (uint32_t)with.details)) {
            uint32_t n = detail_of(id, payload);
            detail = atf_detail(t, ATF_D_EVENT, payload, n, ticks);
            l->details += detail != ATF_NO_DETAIL;
        }
        atf_write_at(t, ticks, ATF_INSTANT, id, (uint32_t)k % 1000, detail);
        l->number = t->number;
        l->tid = t->tid;
        l->slotless = !t->slot;
        l->produced = k + 1;
        random = mix(random + k);
        if (random % with.pace == 0) { /* let the drain catch up now and then: rings are FREE again */
            struct timespec nap = {0, (long)(random >> 32 & 0xFFFFF)};
            nanosleep(&nap, NULL);
        }
    }
    return NULL;
}

/* One place in the program: its threads live one after the other, so slots are given back and taken again. */
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

static void sleep_ms(uint64_t ms)
{
    struct timespec nap = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&nap, NULL);
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
    if (with.threads * with.lives > LIVES_MAX || with.threads > 64) return 2;
    atf_geometry g = {(uint32_t)with.slots, (uint32_t)with.index_rings, (uint32_t)with.detail_rings, (uint32_t)with.spare_rings,
                      with.index_kib << 10, with.detail_kib << 10, with.spare_kib << 10, with.cells, 4096};
    session s = session_new(&g, with.block ? ATF_BLOCK : ATF_DROP_OLDEST, 60000000000u);
    static atf_source source;
    if (atf_source_open(&source, s.control, s.registry, s.lane, argv[1], 0) != 0) return 2;
    atf_engine *engine = atf_engine_new();
    engine->flush_ns = with.flush_us * 1000;
    if (atf_engine_add(engine, &source) || atf_engine_start(engine)) return 2;
    atf_session_open(s.control, s.registry, s.lane);
    pthread_t threads[64];
    for (uint64_t i = 0; i < with.threads; i++) pthread_create(&threads[i], NULL, place, NULL);
    for (uint64_t i = 0; i < with.stalls; i++) { /* whoever holds the lock keeps the drain from its next pass and from its heartbeat */
        pthread_mutex_lock(&engine->lock);
        sleep_ms(with.stall_ms);
        pthread_mutex_unlock(&engine->lock);
        sleep_ms(with.stall_ms / 10);
    }
    for (uint64_t i = 0; i < with.threads; i++) pthread_join(threads[i], NULL);
    atf_session_close();
    atf_engine_finish(engine, &source, 0);
    atf_engine_delete(engine);

    checked all = {0, 0, 0, 0, 0};
    uint64_t produced = 0, details = 0, expected = 0, slotless = 0;
    for (uint32_t i = 0; i < lives_begun; i++) {
        life *l = &lives[i];
        checked c = check_life(argv[1], l, (uint32_t)with.details);
        all.written += c.written, all.lost += c.lost, all.unmarked += c.unmarked, all.linked += c.linked, all.checksum += c.checksum;
        produced += l->produced, details += l->details, slotless += l->slotless;
        for (uint64_t k = 0; k < l->produced; k++) expected += mix((uint64_t)l->id << 32 | k);
    }
    /* A thread without a slot has nowhere to say what it dropped last: the lane's counter says it for all of them. */
    if (all.unmarked > s.lane->dropped) FORBIDDEN("%lu records vanished, %lu were dropped", all.unmarked, s.lane->dropped);
    if (all.checksum != expected) FORBIDDEN("the checksum is %016lx, produced was %016lx", all.checksum, expected);
    if (with.block && (all.lost || all.unmarked)) FORBIDDEN("%lu records lost under block", all.lost + all.unmarked);
    if (with.block && all.linked != details) FORBIDDEN("%lu of %lu details under block", all.linked, details);
    printf("produced %lu written %lu lost %lu unmarked %lu details %lu of %lu lane %lu dropped %lu slotless %lu passes %lu transitions %lu checksum %016lx\n",
           produced, all.written, all.lost, all.unmarked, all.linked, details, s.lane->tail, s.lane->dropped, slotless,
           s.control->drain_passes, s.control->mode_transitions, all.checksum);
    atf_source_close(&source);
    session_free(&s);
    return failures != 0;
}
