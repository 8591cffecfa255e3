/* One thread writes records as fast as it can and the drain takes them; prints what that cost each thread in CPU time.
 *
 *   counting DIRECTORY RECORDS windows|files ASKS_PER_SECOND
 *
 * Another thread asks for all numbers so many times a second, as `atf stat` does. */
#include "../../tests/native/session.h"
#include "engine.h"
#include "producer.h"

static uint64_t records, asks_a_second, asked, producer_ns, asker_ns;
static uint32_t over;
static atf_engine *engine;
static atf_source source;

static void *produce(void *unused)
{
    (void)unused;
    for (uint64_t warm = 0; warm < 2; warm++) { /* the first time round touches the rings */
        uint64_t began = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (uint64_t i = 0; i < records; i++) {
            atf_thread *t = atf_enter();
            uint32_t detail = i % 8 ? ATF_NO_DETAIL : atf_detail(t, 2, &i, sizeof i, atf_ticks(t->clock_type));
            atf_write(t, ATF_INSTANT, i, 1, detail);
        }
        producer_ns = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID) - began;
    }
    atf_store_release32(&over, 1); /* pairs with the asker's acquire */
    return NULL;
}

static void *ask(void *unused)
{
    (void)unused;
    struct timespec pause = {0, asks_a_second ? (long)(1000000000 / asks_a_second) : 0};
    while (asks_a_second && !atf_load_acquire32(&over)) {
        static atf_source numbers;
        atf_output **outputs;
        uint32_t n;
        if (atf_engine_look(engine, &source, &numbers, &outputs, &n) == 0) free(outputs), asked++;
        nanosleep(&pause, NULL);
    }
    asker_ns = atf_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    records = strtoull(argv[2], NULL, 0);
    asks_a_second = strtoull(argv[4], NULL, 0);
    static atf_flight flight;
    atf_geometry g = {4, 4, 4, 0, 1 << 20, 1 << 20, 0, 256, 4096};
    session s = session_new(&g, ATF_BLOCK, 60000000000u);
    if (atf_source_open(&source, s.control, s.registry, s.lane, argv[1], 0) != 0) return 2;
    engine = atf_engine_new();
    if (strcmp(argv[3], "windows") == 0) {
        if (atf_flight_open(&flight, ATF_KEEP_WINDOWS, 50000000, 50000000, 64u << 20) != 0) return 2;
        engine->flight = &flight;
    }
    if (atf_engine_add(engine, &source) || atf_engine_start(engine)) return 2;
    atf_session_open(s.control, s.registry, s.lane);
    pthread_t threads[2];
    if (pthread_create(&threads[0], NULL, produce, NULL) || pthread_create(&threads[1], NULL, ask, NULL)) return 2;
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    atf_session_close();
    atf_engine_join(engine);
    uint64_t drain_ns = engine->cpu_ns;
    atf_engine_finish(engine, &source, 0);
    printf("{\"producer_ns\": %lu, \"drain_ns\": %lu, \"asker_ns\": %lu, \"asked\": %lu, \"seen\": %lu}\n", producer_ns, drain_ns, asker_ns, asked,
           source.n_outputs ? source.outputs[0]->expected : 0);
    return 0;
}
