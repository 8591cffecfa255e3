/* The native agent's record path as the agent compiles it, many threads through small rings, the drain beside them.
 *
 *   agent_stress DIR [key=value ...]
 *
 * The agent's C is the real one: registration, ring swaps, the global lane, frames out of order, a thread's end, blocks used again.
 * What the agent has in assembly stands here in C, step by step, because only C can be instrumented. FORBIDDEN: what ring_stress
 * forbids; and a record whose kind or depth is not what the thread did.
 *
 * Record k of a life has function id = life << 32 | k, a CALL or a RETURN; `said` keeps which, and how deep. */
#include "agent/agent.h"
#include "check.h"
#include "engine.h"
#include "session.h"
#include <pthread.h>

enum { LIVES_MAX = 65536, DEEPEST = 40 };
static struct {
    uint64_t block, threads, lives, records, slots, index_rings, index_kib, spare_rings, cells, stalls, stall_ms, gates, jumps, pace, seed;
} with = {0, 4, 8, 20000, 3, 4, 4, 0, 64, 0, 900, 20, 50, 20000, 1};
static const struct { const char *key; uint64_t *value; } keys[] = {
    {"block", &with.block}, {"threads", &with.threads}, {"lives", &with.lives}, {"records", &with.records}, {"slots", &with.slots},
    {"index_rings", &with.index_rings}, {"index_kib", &with.index_kib}, {"spare_rings", &with.spare_rings}, {"cells", &with.cells},
    {"stalls", &with.stalls}, {"stall_ms", &with.stall_ms}, {"gates", &with.gates}, {"jumps", &with.jumps}, {"pace", &with.pace}, {"seed", &with.seed},
};
static life lives[LIVES_MAX];
static uint32_t lives_begun;

/* ---------------------------------------------------------------- x86_64/hot.S, in C */
static atf_agent_thread *ready(void)
{
    atf_agent_thread *t = atf_agent_fast;
    return t && *atf_seen(t) - T_SEEN_BIAS + atf_load_relaxed32(t->gate) == 0 ? t : NULL;
}

static int record(atf_agent_thread *t, uint64_t word, const uint8_t *stub, uint32_t depth)
{
    uint64_t n = atf_load_relaxed64(t->head), id;
    if (t->negcap + (int64_t)n == 0) return 0;
    atf_event *e = t->base + n;
    memcpy(&id, stub + STUB_ID - STUB_RET_ENTER, 8);
    e->timestamp_ns = atf_ticks(ATF_CLOCK_TSC);
    e->function_id = id;
    memcpy(&e->thread_id, &word, 8);
    e->detail_seq = ATF_NO_DETAIL;
    e->call_depth = depth;
    atf_store_release64(t->head, n + 1); /* a plain store on x86; pairs with the drain's acquire of head */
    return 1;
}

static uint32_t enter(uint64_t *slot, const uint8_t *stub)
{
    atf_agent_thread *t = ready();
    if (!t || (uint64_t)(uintptr_t)slot >= t->top->slot || t->top[1].wall) return atf_agent_enter(slot, stub);
    atf_frame *f = t->top + 1;
    t->top = f;
    f->slot = (uint64_t)(uintptr_t)slot;
    f->ret = *slot;
    f->stub = stub;
    f->depth = f[-1].depth + 1;
    if (record(t, t->call_word, stub, f->depth)) return 1;
    f->slot = 0;
    t->top = f - 1;
    return atf_agent_enter(slot, stub);
}

static uint64_t leave(uint64_t *slot)
{
    atf_agent_thread *t = ready();
    if (!t || t->top->slot != (uint64_t)(uintptr_t)slot || !record(t, t->return_word, t->top->stub, t->top->depth)) return atf_agent_leave(slot);
    uint64_t back = t->top->ret;
    t->top->slot = 0;
    t->top--;
    return back;
}

/* ---------------------------------------------------------------- threads */
static int as_produced(const life *l, uint64_t k, const atf_event *e)
{
    return e->event_kind == (l->said[k] & 0x80 ? ATF_RETURN : ATF_CALL) && e->call_depth == (l->said[k] & 0x7Fu);
}

static void number(uint8_t *stub, const life *l)
{
    uint64_t id = (uint64_t)l->id << 32 | l->produced;
    memcpy(stub + STUB_ID, &id, 8);
}

static void *one_life(void *arg)
{
    life *l = arg;
    uint64_t slots[DEEPEST + 8] = {0}, random = mix(with.seed << 32 | l->id), wanted = with.records / 2 + random % (with.records + 1);
    uint8_t stubs[DEEPEST + 1][STUB_BODY];
    memset(stubs, 0, sizeof stubs);
    l->said = malloc(wanted + 2);
    for (uint32_t depth = 0; l->produced < wanted;) {
        random = mix(random + l->produced);
        if (depth && with.jumps && random % with.jumps == 1) depth -= 1 + (uint32_t)(random >> 20) % depth; /* longjmp: no record */
        int down = depth == 0 || (depth < DEEPEST && random & 0x10000);
        depth += down;
        uint64_t *slot = &slots[DEEPEST - depth];
        uint8_t *stub = stubs[depth];
        number(stub, l);
        l->said[l->produced] = (uint8_t)(depth | (down ? 0 : 0x80u));
        if (down) {
            *slot = l->produced << 1 | 1; /* the call pushes its return address */
            if (!enter(slot, stub + STUB_RET_ENTER)) exit(3);
            *slot = (uint64_t)(uintptr_t)(stub + STUB_RET_BODY);
            slots[DEEPEST + 1] = depth;
        } else {
            if (!(leave(slot) & 1)) exit(4);
            depth--;
        }
        const atf_thread *c = &atf_self_block->core;
        l->number = c->number;
        l->tid = c->tid;
        l->slotless = !c->slot;
        l->produced++;
        if (random % with.pace == 0) { /* let the drain catch up now and then: rings are FREE again */
            struct timespec nap = {0, (long)(random >> 32 & 0xFFFFF)};
            nanosleep(&nap, NULL);
        }
    }
    return NULL;
}

/* One place in the program: its threads live one after the other, so blocks and slots are given back and taken again. */
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
    atf_geometry g = {(uint32_t)with.slots, (uint32_t)with.index_rings, 0, (uint32_t)with.spare_rings, with.index_kib << 10, 0, 16 << 10, with.cells, 4096};
    session s = session_new(&g, with.block ? ATF_BLOCK : ATF_DROP_OLDEST, 60000000000u);
    static atf_source source;
    if (atf_source_open(&source, s.control, s.registry, s.lane, argv[1], 0) != 0) return 2;
    atf_engine *engine = atf_engine_new();
    engine->flush_ns = 500000;
    if (atf_engine_add(engine, &source) || atf_engine_start(engine)) return 2;
    atf_agent_record_open();
    atf_agent_record_begin(s.control, s.registry, s.lane);
    pthread_t threads[64];
    for (uint64_t i = 0; i < with.threads; i++) pthread_create(&threads[i], NULL, place, NULL);
    for (uint64_t i = 0; i < with.gates; i++) { /* every thread looks at the session's state again */
        atf_add_acq_rel32(&s.control->gate, 1);
        sleep_ms(2);
    }
    for (uint64_t i = 0; i < with.stalls; i++) { /* whoever holds the lock keeps the drain from its next pass and from its heartbeat */
        pthread_mutex_lock(&engine->lock);
        sleep_ms(with.stall_ms);
        pthread_mutex_unlock(&engine->lock);
        sleep_ms(with.stall_ms / 10);
    }
    for (uint64_t i = 0; i < with.threads; i++) pthread_join(threads[i], NULL);
    if (!atf_agent_record_end()) FORBIDDEN("a thread is at work that does not exist");
    atf_engine_finish(engine, &source, 0);
    atf_engine_delete(engine);

    checked all = {0, 0, 0, 0, 0};
    uint64_t produced = 0, expected = 0, slotless = 0, blocks = 0;
    for (uint32_t i = 0; i < lives_begun; i++) {
        life *l = &lives[i];
        checked c = check_life(argv[1], l, 0);
        all.written += c.written, all.lost += c.lost, all.unmarked += c.unmarked, all.checksum += c.checksum;
        produced += l->produced, slotless += l->slotless;
        for (uint64_t k = 0; k < l->produced; k++) expected += mix((uint64_t)l->id << 32 | k);
        free(l->said);
    }
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next) blocks++;
    /* A thread without a slot has nowhere to say what it dropped last: the lane's counter says it for all of them. */
    if (all.unmarked > s.lane->dropped) FORBIDDEN("%lu records vanished, %lu were dropped", all.unmarked, s.lane->dropped);
    if (all.checksum != expected) FORBIDDEN("the checksum is %016lx, produced was %016lx", all.checksum, expected);
    if (with.block && (all.lost || all.unmarked)) FORBIDDEN("%lu records lost under block", all.lost + all.unmarked);
    printf("produced %lu written %lu lost %lu unmarked %lu lane %lu dropped %lu slotless %lu blocks %lu of %u passes %lu checksum %016lx\n",
           produced, all.written, all.lost, all.unmarked, s.lane->tail, s.lane->dropped, slotless, blocks, lives_begun, s.control->drain_passes, all.checksum);
    atf_source_close(&source);
    session_free(&s);
    return failures != 0;
}
