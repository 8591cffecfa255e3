/* Many threads write into one lane of the newest events, others read and clear it meanwhile; one reader stalls in the middle of an event.
 *
 *   newest_stress DIR [key=value ...]
 *
 * FORBIDDEN: an event that nobody wrote, or whose bytes are not as they were written, at any time; an event twice in one copy; a
 * thread's events out of their order; at the end anything but exactly the newest `capacity` events; an event that changes
 * while a reader holds it; memory that grows with the number of events.
 *
 * Exit status 0: no forbidden outcome; the last line ends in a checksum over the events that were kept, which was also computed from
 * the numbers that the threads say they wrote last. */
#include <sched.h>
#include <stdint.h>
static _Thread_local uint32_t between;
/* Now and then another thread runs between two steps of one that wait for nothing of it. */
#define ATF_BETWEEN() (++between * 2654435761u >> 27 == 0 ? (void)sched_yield() : (void)0)
#include "newest.h"
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    uint64_t threads, events, capacity, readers, clears, large, stall, fork, rounds, seed;
} with = {8, 20000, 100, 2, 0, 16, 1, 0, 1, 1};
static const struct { const char *key; uint64_t *value; } keys[] = {
    {"threads", &with.threads}, {"events", &with.events}, {"capacity", &with.capacity}, {"readers", &with.readers}, {"clears", &with.clears},
    {"large", &with.large}, {"stall", &with.stall}, {"fork", &with.fork}, {"rounds", &with.rounds}, {"seed", &with.seed},
};
enum { THREADS_MAX = 64, LARGEST = 3000, CHAIN_MAX = 1 + (LARGEST + 16) / ATF_SLOT_ROOM };

static atf_newest lane;
static uint32_t done; /* threads that have written all */
static int failures;
#define FORBIDDEN(...)                                                                        \
    do {                                                                                      \
        if (__atomic_add_fetch(&failures, 1, __ATOMIC_RELAXED) <= 20) {                       \
            fprintf(stderr, "FORBIDDEN: " __VA_ARGS__);                                       \
            fputc('\n', stderr);                                                              \
        }                                                                                     \
    } while (0)

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 31)) * 0x9E3779B97F4A7C15u;
    return (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9u;
}

/* Event k of a thread: 16 bytes of head, then a body whose length and bytes follow from both numbers. */
typedef struct head {
    uint64_t thread, k;
} head;

static uint32_t body_of(head h, uint8_t *body)
{
    uint64_t m = mix(h.thread << 40 ^ h.k ^ with.seed << 56);
    uint32_t n = (uint32_t)(m % 300) + (with.large && (m >> 20) % with.large == 0 ? (uint32_t)((m >> 30) % (LARGEST - 300)) : 0);
    for (uint32_t i = 0; i < n; i++) body[i] = (uint8_t)(m >> (i % 56)) ^ (uint8_t)i;
    return n;
}

static head checked(const uint8_t *bytes, uint32_t n, const char *when)
{
    head h = {UINT64_MAX, 0};
    uint8_t wanted[LARGEST];
    if (n >= sizeof h) memcpy(&h, bytes, sizeof h);
    if (h.thread >= with.threads || h.k >= with.events * 2 || n != sizeof h + body_of(h, wanted) || memcmp(bytes + sizeof h, wanted, n - sizeof h) != 0) {
        FORBIDDEN("%s: an event of %u bytes that nobody wrote (thread %lu, number %lu)", when, n, h.thread, h.k);
        h.thread = 0;
    }
    return h;
}

static void write_event(head h)
{
    uint8_t body[LARGEST];
    uint32_t n = body_of(h, body);
    if (!atf_newest_put(&lane, &h, sizeof h, body, n)) FORBIDDEN("an event refused");
}

static void *producer(void *arg)
{
    for (head h = {(uint64_t)(uintptr_t)arg, 0}; h.k < with.events; h.k++) {
        write_event(h);
        if (with.clears && mix(h.k + h.thread) % with.clears == 0) atf_newest_clear(&lane);
    }
    __atomic_add_fetch(&done, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* One copy: whole, in order, nothing twice. Returns how many; the numbers of the first and last of each thread when asked for. */
static uint64_t look(const char *when, uint64_t *first, uint64_t *count)
{
    atf_copies c;
    uint64_t last[THREADS_MAX], newest = UINT64_MAX;
    for (uint64_t i = 0; i < with.threads; i++) last[i] = UINT64_MAX;
    if (!atf_newest_copy(&lane, (uint32_t)getpid(), &c)) exit(3);
    if (c.events > with.capacity) FORBIDDEN("%s: %lu events in a lane of %lu", when, c.events, with.capacity);
    for (uint64_t i = 0; i < c.events; i++) { /* newest first */
        uint8_t *at = c.bytes + c.offsets[i];
        uint32_t n;
        uint64_t position;
        memcpy(&n, at, 4);
        memcpy(&position, at + 8, 8);
        head h = checked(at + 16, n, when);
        if (position >= newest) FORBIDDEN("%s: position %lu after %lu", when, position, newest);
        newest = position;
        if (h.k >= last[h.thread]) FORBIDDEN("%s: thread %lu: number %lu after %lu", when, h.thread, last[h.thread], h.k);
        last[h.thread] = h.k;
        if (first) first[h.thread] = h.k, count[h.thread]++;
    }
    uint64_t events = c.events;
    atf_copies_free(&c);
    return events;
}

static void *reader(void *arg)
{
    (void)arg;
    while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < with.threads) look("while they write", NULL, NULL);
    return NULL;
}

/* Holds the oldest event from the beginning to the end. */
static void *staller(void *arg)
{
    (void)arg;
    int r = atf_newest_enter(&lane, (uint32_t)getpid()), older;
    uint32_t chain = 0;
    while (!chain && __atomic_load_n(&done, __ATOMIC_ACQUIRE) < with.threads) {
        uint64_t from, to;
        atf_newest_range(&lane, &from, &to);
        if (to > from) chain = atf_newest_hold(&lane, r, from, &older);
    }
    static uint8_t before[LARGEST + 16], after[LARGEST + 16];
    if (chain) {
        uint32_t n = atf_slot256_at(&lane.slots, chain)->bytes;
        atf_slots_copy(&lane.slots, chain, before);
        checked(before, n, "held");
        while (__atomic_load_n(&done, __ATOMIC_ACQUIRE) < with.threads) sched_yield();
        atf_slots_copy(&lane.slots, chain, after);
        if (atf_slot256_at(&lane.slots, chain)->bytes != n || memcmp(before, after, n) != 0) FORBIDDEN("an event changed while it was held");
    }
    atf_newest_release(&lane, r);
    return NULL;
}

/* A child that a native thread forked while others wrote: what they were at is never published, and the lane works on. */
static void forked(void)
{
    uint64_t first[THREADS_MAX] = {0}, count[THREADS_MAX] = {0};
    look("in the child", NULL, NULL);
    for (head h = {0, with.events}; h.k < with.events + with.capacity + 5; h.k++) write_event(h);
    uint64_t n = look("in the child, later", first, count);
    if (n != with.capacity || count[0] != n || first[0] != with.events + 5) FORBIDDEN("the child has %lu events from number %lu on", n, first[0]);
    _exit(failures != 0);
}

static struct {
    uint64_t written, kept, pushed_out, slots, sum;
} all;

/* All threads, from the first event to a lane that nobody writes to any more. */
static void one_round(void)
{
    if (!atf_newest_open(&lane, with.capacity)) exit(2);
    done = 0;
    pthread_t threads[THREADS_MAX], readers[ATF_READERS], stalled;
    for (uint64_t i = 0; i < with.threads; i++) pthread_create(&threads[i], NULL, producer, (void *)(uintptr_t)i);
    for (uint64_t i = 0; i < with.readers; i++) pthread_create(&readers[i], NULL, reader, NULL);
    if (with.stall) pthread_create(&stalled, NULL, staller, NULL);
    for (uint64_t i = 0; i < with.fork; i++) {
        pid_t child = fork();
        int status = 0;
        if (child == 0) forked();
        if (waitpid(child, &status, 0) != child || status != 0) FORBIDDEN("a forked child ended with %x", (unsigned)status);
    }
    for (uint64_t i = 0; i < with.threads; i++) pthread_join(threads[i], NULL);
    for (uint64_t i = 0; i < with.readers; i++) pthread_join(readers[i], NULL);
    if (with.stall) pthread_join(stalled, NULL);

    uint64_t first[THREADS_MAX] = {0}, count[THREADS_MAX] = {0}, total = with.threads * with.events, from, to, sum = 0, expected = 0;
    uint64_t kept = look("at the end", first, count), pushed_out = atf_newest_pushed_out(&lane);
    atf_newest_range(&lane, &from, &to);
    if (to != total) FORBIDDEN("%lu positions for %lu events", to, total);
    if (kept != to - from) FORBIDDEN("%lu events kept of the newest %lu", kept, to - from);
    if (!with.clears && (kept != (total < with.capacity ? total : with.capacity) || kept + pushed_out != total))
        FORBIDDEN("kept %lu + pushed out %lu, written %lu", kept, pushed_out, total);
    for (uint64_t t = 0; t < with.threads; t++) { /* what is kept of a thread is its last */
        if (count[t] && first[t] + count[t] != with.events) FORBIDDEN("thread %lu: %lu kept from number %lu on", t, count[t], first[t]);
        for (uint64_t k = with.events - count[t]; k < with.events; k++) expected += mix(t << 40 ^ k);
    }
    atf_copies c;
    if (!atf_newest_copy(&lane, (uint32_t)getpid(), &c)) exit(3);
    for (uint64_t i = 0; i < c.events; i++) {
        head h = checked(c.bytes + c.offsets[i] + 16, *(uint32_t *)(c.bytes + c.offsets[i]), "at the end");
        sum += mix(h.thread << 40 ^ h.k);
    }
    atf_copies_free(&c);
    if (sum != expected) FORBIDDEN("the checksum is %016lx, written was %016lx", sum, expected);
    uint64_t bound = (with.capacity + with.threads * 2 + ATF_READERS * 2) * CHAIN_MAX;
    if (lane.slots.made > bound) FORBIDDEN("%lu slots for at most %lu", lane.slots.made, bound);
    if (lane.retired) FORBIDDEN("an event is held after its last reader left");
    all.written += total, all.kept += kept, all.pushed_out += pushed_out, all.sum += sum;
    if (all.slots < lane.slots.made) all.slots = lane.slots.made;
    atf_newest_close(&lane);
}

int main(int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        size_t k = 0, n = sizeof keys / sizeof *keys;
        char *equals = strchr(argv[i], '=');
        while (k < n && (!equals || strlen(keys[k].key) != (size_t)(equals - argv[i]) || strncmp(keys[k].key, argv[i], strlen(keys[k].key)) != 0)) k++;
        if (k == n) return fprintf(stderr, "unknown: %s\n", argv[i]), 2;
        *keys[k].value = strtoull(equals + 1, NULL, 0);
    }
    if (with.threads > THREADS_MAX) return 2;
    for (uint64_t i = 0; i < with.rounds; i++) one_round();
    printf("written %lu kept %lu pushed out %lu slots %lu checksum %016lx\n", all.written, all.kept, all.pushed_out, all.slots, all.sum);
    return failures != 0;
}
