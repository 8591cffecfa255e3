/* A caller who has asked for the drain's lock and is slow to come: the drain lets it by, but not for ever.
 *
 * FORBIDDEN: passes that begin while it is waited for; a drain that waits for longer than ATF_TURN_NS, or that does not go on. */
#include "engine.h"
#include "session.h"

static uint64_t cycles(atf_engine *e) { return atf_load_relaxed64(&e->cycles); }

static void sleep_ms(long ms)
{
    struct timespec nap = {0, ms * 1000000};
    nanosleep(&nap, NULL);
}

int main(int argc, char **argv)
{
    if (argc < 2) return 2;
    atf_geometry g = {4, 2, 0, 0, 4096, 0, 0, 64, 4096};
    session s = session_new(&g, ATF_DROP_OLDEST, 0);
    static atf_source source;
    if (atf_source_open(&source, s.control, s.registry, s.lane, argv[1], 0) != 0) return 2;
    atf_engine *e = atf_engine_new();
    if (atf_engine_add(e, &source) || atf_engine_start(e)) return 2;
    uint64_t began_early = 0, waited = 0;
    for (int i = 0; i < 12; i++) {
        for (uint64_t before = cycles(e); cycles(e) < before + 3;) sleep_ms(1); /* it goes on by itself */
        pthread_mutex_lock(&e->lock); /* so that it is between two passes when it hears of us */
        uint64_t before = cycles(e), asked = atf_clock_ns(CLOCK_MONOTONIC);
        atf_add_acq_rel64(&e->turns.asked, 1);
        pthread_mutex_unlock(&e->lock);
        sleep_ms(50);
        uint64_t passes = cycles(e) - before;
        if (atf_clock_ns(CLOCK_MONOTONIC) - asked >= ATF_TURN_NS) passes = 0, waited++; /* this machine let us oversleep */
        began_early += passes > 1;
        if (passes > 1) fprintf(stderr, "FORBIDDEN: %lu passes while one who asked was waited for\n", passes);
        if (i % 4 == 0) /* it never comes: the drain goes on without it */
            while (cycles(e) < before + 5) sleep_ms(1);
        pthread_mutex_lock(&e->lock);
        atf_engine_unlock(e); /* served */
    }
    atf_engine_finish(e, &source, 0);
    atf_engine_delete(e);
    atf_source_close(&source);
    session_free(&s);
    printf("12 asked, %lu overslept checksum %016lx\n", waited, began_early);
    return began_early != 0 || waited > 9;
}
