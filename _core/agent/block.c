/* Memory of a thread: its block and its shadow stack, by plain system calls. Blocks of threads that are gone are used again. */
#include "agent.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FRAMES_LEAST (64u << 10)
#define FRAMES_MOST (4u << 20)

static atf_agent_thread *blocks; /* of all threads that ever were, pushed by compare-exchange, never removed */

long atf_call(long number, long a, long b, long c, long d, long e, long f)
{
    return atf_arch_call(number, a, b, c, d, e, f);
}

atf_agent_thread *atf_block_first(void) { return __atomic_load_n(&blocks, __ATOMIC_ACQUIRE); }

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/* Reads /proc/self/maps piece by piece: only the two addresses at the head of each line matter. */
int atf_block_home(uint64_t sp, uint64_t *low, uint64_t *high)
{
    char text[512];
    long fd = atf_call(SYS_openat, -100, (long)"/proc/self/maps", 0x80000, 0, 0, 0), n;
    uint64_t bound[2] = {0, 0};
    int field = 0, found = 0;
    if (fd < 0) return 0;
    while (!found && (n = atf_call(SYS_read, fd, (long)text, sizeof text, 0, 0, 0)) > 0)
        for (long i = 0; i < n; i++) {
            int digit = field < 2 ? hex(text[i]) : -1;
            if (text[i] == '\n') field = 0, bound[0] = bound[1] = 0;
            else if (digit >= 0) bound[field] = bound[field] << 4 | (uint64_t)digit;
            else if (field < 2 && ++field == 2 && sp >= bound[0] && sp < bound[1]) {
                *low = bound[0], *high = bound[1], found = 1;
                break;
            }
        }
    atf_call(SYS_close, fd, 0, 0, 0, 0, 0);
    return found;
}

/* All but what others look at meanwhile: `finished`, `next`, and `bytes`. */
static void clear(atf_agent_thread *t)
{
    uint8_t *captured = t->captured;
    memset(t, 0, offsetof(atf_agent_thread, bytes));
    atf_store_relaxed32(&t->tid, 0); /* one that lost the block in reused may still be asking for its thread */
    t->rounds = 0;
    memset(&t->serial, 0, offsetof(atf_agent_thread, next) - offsetof(atf_agent_thread, serial));
    memset(&t->core, 0, sizeof t->core);
    t->captured = captured;
    t->bottom = t->top = (atf_frame *)((char *)t + ATF_THREAD_BYTES);
    t->bottom->slot = INT64_MAX; /* above every address: the first frame always lies below */
}

/* A thread that is over and whose id nobody has now. */
static atf_agent_thread *reused(uint32_t pid)
{
    for (atf_agent_thread *t = atf_block_first(); t; t = t->next) {
        if (atf_load_acquire32(&t->finished) != 1 || atf_call(SYS_tgkill, pid, atf_load_relaxed32(&t->tid), 0, 0, 0, 0) != -3 /* ESRCH */) continue;
        if (atf_cas_acq_rel32(&t->finished, 1, 2)) return t;
    }
    return NULL;
}

atf_agent_thread *atf_block_new(void)
{
    uint64_t sp = (uint64_t)(uintptr_t)__builtin_frame_address(0), low = 0, high = 0, frames = FRAMES_LEAST;
    uint32_t pid = (uint32_t)atf_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    atf_agent_thread *t = reused(pid);
    if (atf_block_home(sp, &low, &high)) {
        struct rlimit64 limit = {0, 0};
        atf_call(SYS_prlimit64, 0, RLIMIT_STACK, 0, (long)&limit, 0, 0);
        uint64_t most = limit.rlim_cur > 1u << 30 ? 1u << 30 : limit.rlim_cur;
        if ((uint32_t)atf_call(SYS_gettid, 0, 0, 0, 0, 0, 0) == pid && high - low < most) low = high - most; /* the first stack grows */
        frames = (high - low) / 16; /* no frame is smaller */
    }
    frames = frames < FRAMES_LEAST ? FRAMES_LEAST : frames > FRAMES_MOST ? FRAMES_MOST : frames;
    uint64_t bytes = (4096 + ATF_THREAD_BYTES + (frames + 2) * sizeof(atf_frame) + 4095) / 4096 * 4096;
    if (t && t->bytes < bytes) {
        atf_store_release32(&t->finished, 1);
        t = NULL;
    }
    int fresh = !t;
    if (fresh) {
        long at = atf_call(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at < 0 && at > -4096) return NULL;
        atf_call(SYS_madvise, at, 4096, MADV_WIPEONFORK, 0, 0, 0);
        t = (atf_agent_thread *)(at + 4096);
        t->bytes = bytes;
    }
    clear(t);
    atf_frame *last = (atf_frame *)((char *)t - 4096 + t->bytes) - 1;
    last->wall = 1;
    t->home_low = low, t->home_high = high;
    atf_store_relaxed32(&t->tid, (uint32_t)atf_call(SYS_gettid, 0, 0, 0, 0, 0, 0));
    if (fresh) {
        t->next = atf_block_first();
        while (!__atomic_compare_exchange_n(&blocks, &t->next, t, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {}
    } else atf_store_release32(&t->finished, 0); /* until here nobody looks at its frames */
    return t;
}
