/* Many threads recorded in small parts, while others ask for the numbers, fetch what parts left, and ask for the next part.
 *
 *   parts_stress DIR [threads] [lives] [records] [part bytes]
 *
 * FORBIDDEN: a record that is in two parts, or out of order, or in none without a GAP; a part that says other than what came before it;
 * numbers of all parts that are not the thread's; a call in progress that a part does not tell again. The last line ends in a checksum over
 * all records, written and lost, which was also computed from what the threads produced. */
#include "check.h"
#include "parts.h"
#include "engine.h"
#include "producer.h"
#include "session.h"
#include <pthread.h>

enum { LIVES_MAX = 4096, PARTS_MAX = 100000, DEPTH = 3 };
static uint64_t threads_n = 4, lives_n = 8, records_n = 20000, part_bytes = 65536;
static life lives[LIVES_MAX];
static uint32_t lives_begun, over;
static atf_engine *engine;
static atf_source source;
static uint64_t left_records, left_parts; /* as the rows say that parts left */

static uint32_t kind_of(const life *l, uint64_t k) { return k < DEPTH ? ATF_CALL : k >= l->produced - DEPTH ? ATF_RETURN : ATF_INSTANT; }

/* Record k's function: a return has its call's. */
static uint64_t function_of(const life *l, uint64_t k)
{
    return (uint64_t)l->id << 32 | (kind_of(l, k) == ATF_RETURN ? l->produced - 1 - k : k);
}

static int as_produced(const life *l, uint64_t k, const atf_event *e)
{
    return e->function_id == function_of(l, k) && e->event_kind == kind_of(l, k) && e->thread_id == l->tid;
}

static void *one_life(void *arg)
{
    life *l = arg;
    uint64_t wanted = l->produced;
    for (uint64_t k = 0; k < wanted; k++) {
        atf_thread *t = atf_enter();
        if (!t) exit(3);
        uint32_t depth = k < DEPTH ? (uint32_t)k + 1 : k >= wanted - DEPTH ? (uint32_t)(wanted - k) : DEPTH + 1;
        atf_write(t, kind_of(l, k), function_of(l, k), depth, ATF_NO_DETAIL);
        l->number = t->number;
        l->tid = t->tid;
        l->slotless = !t->slot;
        if (mix((uint64_t)l->id << 32 | k) % 2000 == 0) {
            struct timespec nap = {0, 300000};
            nanosleep(&nap, NULL);
        }
    }
    return NULL;
}

static void *place(void *unused)
{
    (void)unused;
    for (uint64_t i = 0; i < lives_n; i++) {
        uint32_t id = __atomic_fetch_add(&lives_begun, 1, __ATOMIC_RELAXED);
        lives[id].id = id;
        lives[id].produced = records_n / 2 + mix(id) % records_n + 2 * DEPTH;
        pthread_t thread;
        if (pthread_create(&thread, NULL, one_life, &lives[id]) != 0) exit(2);
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void fetch(void)
{
    atf_engine_lock(engine);
    atf_left *l = engine->parts->left;
    engine->parts->left = NULL;
    engine->parts->waiting = 0;
    engine->parts->last = &engine->parts->left;
    if (mix(left_parts) % 8 == 0) engine->parts->asked = 1;
    atf_engine_unlock(engine);
    while (l) {
        for (uint32_t i = 0; i < l->n; i++) left_records += l->outputs[i].expected - l->outputs[i].from;
        left_parts++;
        atf_left *next = l->next;
        atf_left_free(l);
        l = next;
    }
}

static void *others(void *unused)
{
    (void)unused;
    while (!atf_load_acquire32(&over)) { /* pairs with the release in main */
        static atf_source numbers;
        atf_output *outputs;
        uint32_t n;
        if (atf_engine_look(engine, &source, &numbers, &outputs, &n) == 0) free(outputs);
        fetch();
        struct timespec nap = {0, 2000000};
        nanosleep(&nap, NULL);
    }
    return NULL;
}

/* One life's records over all parts. */
static void check_parts(const char *root, const life *l, uint64_t *lost, uint64_t *checksum)
{
    uint64_t next = 0;
    for (uint32_t part = 1; part <= engine->parts->number; part++) {
        char dir[3900];
        size_t bytes;
        snprintf(dir, sizeof dir, "%s/" ATF_PART_NAME "/p", root, part);
        uint8_t *file = slurp(dir, l->number, "index.atf", &bytes);
        if (!file) continue;
        atf_index_header h;
        memcpy(&h, file, sizeof h);
        uint64_t n = (h.footer_offset - 64) / 32, i = 0;
        if (bytes != h.footer_offset + 64 || memcmp(file + h.footer_offset, "2ITA", 4) != 0) FORBIDDEN("part %u, thread %u: no footer", part, l->number);
        const atf_event *e = (const atf_event *)(file + 64);
        if (n && e->event_kind == ATF_GAP && e->call_depth == ATF_GAP_EARLIER) {
            uint64_t told = next - e->function_id; /* calls that are told again are of those that came before */
            if (told > DEPTH || told >= n) {
                FORBIDDEN("part %u, thread %u: %lu records before it, it says %lu", part, l->number, next, e->function_id);
                told = 0;
            }
            for (i = 1; i <= told; i++)
                if (!as_produced(l, i - 1, &e[i])) FORBIDDEN("part %u, thread %u: call %lu is told again as another", part, l->number, i - 1);
        }
        for (; i < n; i++) {
            if (e[i].event_kind == ATF_GAP) {
                for (uint64_t k = next; k < next + e[i].function_id; k++) *checksum += mix((uint64_t)l->id << 32 | k);
                next += e[i].function_id;
                *lost += e[i].function_id;
                continue;
            }
            if (next >= l->produced || !as_produced(l, next, &e[i]))
                FORBIDDEN("part %u, thread %u: where record %lu was to come, at %lu: function %lx tid %u kind %u", part, l->number, next, i, e[i].function_id,
                          e[i].thread_id, e[i].event_kind);
            *checksum += mix((uint64_t)l->id << 32 | next++);
        }
        free(file);
    }
    if (next != l->produced) FORBIDDEN("thread %u: %lu records in all parts, %lu were produced", l->number, next, l->produced);
}

int main(int argc, char **argv)
{
    uint64_t *of[] = {&threads_n, &lives_n, &records_n, &part_bytes};
    if (argc < 2 || argc > 6) return 2;
    for (int i = 2; i < argc; i++) *of[i - 2] = strtoull(argv[i], NULL, 0);
    if (threads_n > 16 || threads_n * lives_n > LIVES_MAX) return 2;
    atf_geometry g = {24, 3, 0, 4, 4096, 0, 16384, 256, 4096};
    session s = session_new(&g, ATF_DROP_OLDEST, 0);
    char dir[3900];
    snprintf(dir, sizeof dir, "%s/" ATF_PART_NAME, argv[1], 1);
    if (mkdir(dir, 0700) != 0) return 2;
    strcat(dir, "/p");
    if (mkdir(dir, 0700) != 0) return 2;
    engine = atf_engine_new();
    engine->flush_ns = 1000000;
    engine->parts = calloc(1, sizeof *engine->parts);
    if (!engine->parts || atf_parts_open(engine->parts, argv[1], part_bytes, 0)) return 2;
    if (atf_source_open(&source, s.control, s.registry, s.lane, dir, 0) != 0) return 2;
    if (atf_engine_add(engine, &source) || atf_engine_start(engine)) return 2;
    atf_session_open(s.control, s.registry, s.lane);
    pthread_t places[16], other;
    if (pthread_create(&other, NULL, others, NULL) != 0) return 2;
    for (uint64_t i = 0; i < threads_n; i++)
        if (pthread_create(&places[i], NULL, place, NULL) != 0) return 2;
    for (uint64_t i = 0; i < threads_n; i++) pthread_join(places[i], NULL);
    atf_store_release32(&over, 1);
    pthread_join(other, NULL);
    atf_session_close();
    atf_engine_finish(engine, &source, 0);
    fetch();
    uint64_t produced = 0, lost = 0, checksum = 0, expected = 0, records = left_records;
    for (uint32_t i = 0; i < source.n_outputs; i++) records += source.outputs[i]->expected - source.outputs[i]->from;
    for (uint32_t i = 0; i < lives_begun; i++) {
        check_parts(argv[1], &lives[i], &lost, &checksum);
        produced += lives[i].produced;
        for (uint64_t k = 0; k < lives[i].produced; k++) expected += mix((uint64_t)lives[i].id << 32 | k);
    }
    if (records != produced) FORBIDDEN("the rows of all parts say %lu records, %lu were produced", records, produced);
    if (checksum != expected) FORBIDDEN("the checksum is %016lx, produced was %016lx", checksum, expected);
    printf("produced %lu lost %lu in %u parts, %lu left rows, checksum %016lx\n", produced, lost, engine->parts->number, left_parts, checksum);
    atf_engine_delete(engine);
    atf_source_close(&source);
    session_free(&s);
    return failures != 0;
}
