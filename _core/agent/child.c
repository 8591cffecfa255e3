/* A forked child of a recorded process records on: at its first event it makes segments of its own, formatted as its parent's, and
 * announces them in the session's directory as every recorded process does. It asks nobody and waits for nobody, so a child that
 * ends at once leaves its records too: whoever drains adopts the segments of the dead. A child without an event costs nothing.
 * System calls only: the child may have been forked while another thread held any lock of the C library. Texts stand in static
 * memory, since the stack may be small: one thread makes the segments. */
#include "agent.h"
#include "family.h"
#include "hooks.h"
#include "text.h"
#include "../segments.h"
#include <sys/mman.h>
#include <sys/shm.h>

#define NO_RESERVE 010000

enum stage { NOTHING = 0, FORKED = 1, BEGINNING = 2 };

static char plan_place[256];
static atf_text plan_name = {plan_place, 0, sizeof plan_place, 0};
static atf_geometry geometry; /* of this process's segments, for those of its children */
static atf_settings settings;
static int formatted;  /* both are known */
static uint32_t stage; /* of a forked child that has no segments yet */
static int plans_shared; /* the plans' answers are the parent's still */
static atf_agent_thread *inherited; /* the thread that forked, while its frames are not in the child's lane */

void atf_family_of_plan(const char *plan)
{
    static char directory[2048];
    size_t slash = 0, n = 0;
    for (; plan[n]; n++)
        if (plan[n] == '/') slash = n;
    if (!slash || slash >= sizeof directory) return;
    memcpy(directory, plan, slash);
    directory[slash] = 0;
    if (!atf_family_here() && !atf_family_open(directory)) return;
    atf_exec_here(directory);
    plan_name = atf_text_in(plan_place, sizeof plan_place);
    atf_text_put(&plan_name, plan + slash + 1);
}

/* Notes how the segments of this process are laid out: its children's will be, but for memory that most of them never need. */
void atf_family_like(const atf_control *c, const atf_registry *r)
{
    geometry = (atf_geometry){r->capacity, r->index_rings, r->detail_rings, r->spare_rings, r->index_bytes, r->detail_bytes, r->spare_bytes, 1024, 4096};
    settings = (atf_settings){0, c->policy, c->drain_expected, c->level, c->clock_type, 1, 0, c->block_deadline_ns, c->ticks_per_second};
    formatted = 1;
}

/* In a forked child, before it lets go of its parent's session: whether it will have one of its own. */
void atf_child_forked(int recorded, atf_agent_thread *self)
{
    atf_store_release32(&stage, atf_family_here() && formatted && (recorded || stage != NOTHING) ? FORKED : NOTHING);
    inherited = self;
    plans_shared = 1;
    atf_agent_lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER; /* whoever held it does not exist here */
}

/* What this process notes in its plans from now on is its own. */
void atf_child_own_plans(void)
{
    if (!plans_shared) return;
    plans_shared = 0;
    atf_plan *p;
    for (uint32_t i = 0; (p = atf_agent_plan(i)) != NULL; i++) {
        long bytes = (long)((p->bytes + 4095ull) / 4096 * 4096);
        long copy = atf_call(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (copy < 0 && copy > -4096) continue;
        memcpy((void *)copy, p, p->bytes);
        atf_call(SYS_mremap, copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (long)p, 0);
    }
}

/* ---------------------------------------------------------------- announcing */
static int announce(const int ids[3], char *name, size_t room)
{
    static char content[8192], part[4096];
    atf_text t = atf_text_in(content, sizeof content), n = atf_text_in(name, room);
    atf_text_number(&n, settings.pid);
    atf_text_char(&n, '-');
    atf_text_number(&n, (uint64_t)ids[0]);
    atf_text_put(&n, ".process");
    atf_text_put(&t, "native=1\npid=");
    atf_text_number(&t, settings.pid);
    atf_text_put(&t, "\nstart=");
    atf_text_number(&t, settings.start);
    atf_text_put(&t, "\nppid=");
    atf_text_number(&t, (uint64_t)atf_call(SYS_getppid, 0, 0, 0, 0, 0, 0));
    for (int i = 0; i < 3; i++) {
        atf_text_put(&t, i ? "," : "\nsegments=");
        atf_text_number(&t, (uint64_t)ids[i]);
    }
    atf_text_put(&t, "\nplan=");
    atf_text_value(&t, plan_name.start, plan_name.n);
    atf_text_put(&t, "\nargv=");
    t.room -= 1; /* its line ends, however long it is */
    atf_text_value(&t, part, (size_t)atf_read_whole("/proc/self/cmdline", part, sizeof part));
    t.room += 1, t.full = 0;
    atf_text_char(&t, '\n');
    return atf_family_write(name, &t);
}

/* ---------------------------------------------------------------- beginning */
/* The calls in progress at the fork, as if they had been made now: their returns will be the child's. */
static void enter_frames(atf_thread *c)
{
    atf_agent_thread *t = inherited;
    if (!t || c != &t->core) return;
    inherited = NULL;
    atf_thread_started = NULL;
    uint32_t count = 0;
    for (atf_frame *f = t->bottom + 1; f <= t->top; f++) {
        uint64_t id;
        if (!f->slot) continue;
        memcpy(&id, f->stub + STUB_ID - STUB_RET_ENTER, 8);
        atf_write(c, ATF_CALL, id, f->depth, ATF_NO_DETAIL);
        count++;
    }
    if (c->slot) atf_store_relaxed32(&c->slot->entered, count);
}

static void give_up(const int ids[3], void *const at[3])
{
    for (int i = 0; i < 3; i++) {
        if (at[i]) atf_call(SYS_shmdt, (long)at[i], 0, 0, 0, 0, 0);
        if (ids[i] >= 0) atf_call(SYS_shmctl, ids[i], IPC_RMID, 0, 0, 0, 0);
    }
}

static int begin(void)
{
    const uint64_t bytes[3] = {atf_control_bytes(), atf_registry_bytes(&geometry), atf_rings_bytes(&geometry)};
    int ids[3] = {-1, -1, -1}, good = 1;
    void *at[3] = {NULL, NULL, NULL};
    char name[64];
    for (int i = 0; i < 3 && good; i++) {
        ids[i] = (int)atf_call(SYS_shmget, IPC_PRIVATE, (long)bytes[i], IPC_CREAT | NO_RESERVE | 0600, 0, 0, 0);
        long mapped = ids[i] < 0 ? -1 : atf_call(SYS_shmat, ids[i], 0, 0, 0, 0, 0);
        if (mapped < 0 && mapped > -4096) good = 0;
        else at[i] = (void *)mapped;
    }
    if (good) {
        settings.pid = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
        settings.start = atf_process_start(settings.pid);
        atf_segments_format(at[0], at[1], at[2], bytes, &geometry, &settings);
        good = announce(ids, name, sizeof name);
    }
    /* The recorder writes `stopped`, then looks for announcements one last time: one of both sees the other. */
    if (good && atf_family_state() != ATF_SESSION_OPEN) {
        atf_family_forget(name);
        good = 0;
    }
    if (!good) {
        give_up(ids, at);
        return 0;
    }
    atf_child_own_plans();
    if (inherited) atf_thread_started = enter_frames;
    atf_agent_record_begin(at[0], at[1], at[2]);
    return 1;
}

static void nap_us(long us)
{
    struct timespec nap = {0, us * 1000};
    atf_call(SYS_nanosleep, (long)&nap, 0, 0, 0, 0, 0);
}

/* Room for one more: under `block` it is waited for, as for a ring. */
static int make_room(void)
{
    atf_family *family = atf_family_here();
    uint64_t start = atf_clock_ns(CLOCK_MONOTONIC);
    for (;;) {
        uint32_t there = atf_add_acq_rel32(&family->made, 1) - atf_load_acquire32(&family->drained);
        if (there < family->most) return 1;
        atf_add_acq_rel32(&family->made, (uint32_t)-1);
        if (settings.policy != ATF_BLOCK || atf_clock_ns(CLOCK_MONOTONIC) - start > settings.block_deadline_ns || atf_family_state() != ATF_SESSION_OPEN) return 0;
        nap_us(500);
    }
}

/* At an event of a forked child that has no segments. Its other threads wait for the one that makes them. */
void atf_child_begin(void)
{
    atf_family *family = atf_family_here();
    uint32_t now = atf_load_acquire32(&stage);
    if (now == NOTHING) return;
    if (now == FORKED && atf_cas_acq_rel32(&stage, FORKED, BEGINNING)) {
        int there = atf_family_state();
        if (there == ATF_SESSION_CLOSED) atf_add_acq_rel32(&family->unrecorded, 1);
        if (there == ATF_SESSION_OPEN) {
            int room = make_room(), good = room && begin();
            if (!good) atf_add_acq_rel32(&family->unrecorded, 1);
            if (room && !good) atf_add_acq_rel32(&family->made, (uint32_t)-1);
        }
        atf_store_release32(&stage, NOTHING); /* pairs with the acquire above: atf_recording is set, or stays NULL */
        return;
    }
    while (atf_load_acquire32(&stage) == BEGINNING) nap_us(50);
}
