/* Keeps SIGTRAP ours while functions carry traps: a program that installs a handler of its own has it called from ours, and one that
 * blocks the signal believes so. A trap under a blocked SIGTRAP would end the process. Each function here stands in the place of the
 * C library's of that name and calls it. Masks that reach the kernel otherwise (plain system calls, a changed ucontext) are not seen. */
#include "trap.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

#define BIT(number) (1ull << ((number) - 1))

struct sigaction atf_theirs;
int atf_signal_ours;
static uint64_t masked; /* a bit for each signal whose handler, as the program believes, blocks SIGTRAP */
static _Thread_local uint64_t blocked __attribute__((tls_model("initial-exec"))); /* BIT(SIGTRAP): as this thread believes */
static uint8_t *originals[TRAP_OWN_MOST];
enum { ACTION, MASK, SUSPEND, PPOLL, PSELECT, EPOLL, EPOLL2 };
#define ORIGINAL(type, which) ((type)(void *)originals[which])

/* The kernel's set is eight bytes; callers need not have more. */
static const sigset_t *without(const sigset_t *asked, sigset_t *copy)
{
    if (!asked || !atf_signal_ours) return asked;
    memset(copy, 0, sizeof *copy);
    copy->__val[0] = asked->__val[0] & ~BIT(SIGTRAP);
    return copy;
}

static int action(int number, const struct sigaction *new, struct sigaction *old)
{
    struct sigaction copy;
    if (number == SIGTRAP && atf_signal_ours) {
        struct sigaction before = atf_theirs;
        if (new) atf_theirs = *new;
        if (old) *old = before;
        return 0;
    }
    uint64_t wanted = 0, had = number > 0 && number <= 64 ? masked & BIT(number) : 0;
    if (new) copy = *new;
    if (new && atf_signal_ours) {
        wanted = copy.sa_mask.__val[0] & BIT(SIGTRAP);
        copy.sa_mask.__val[0] &= ~BIT(SIGTRAP);
    }
    int result = ORIGINAL(int (*)(int, const struct sigaction *, struct sigaction *), ACTION)(number, new ? &copy : NULL, old);
    if (result != 0) return result;
    if (old && had) old->sa_mask.__val[0] |= BIT(SIGTRAP);
    if (new && wanted) __atomic_or_fetch(&masked, BIT(number), __ATOMIC_RELAXED);
    else if (new) __atomic_and_fetch(&masked, ~BIT(number), __ATOMIC_RELAXED);
    return 0;
}

static int thread_mask(int how, const sigset_t *new, sigset_t *old)
{
    sigset_t copy;
    uint64_t wanted = new && atf_signal_ours ? new->__val[0] & BIT(SIGTRAP) : 0, before = blocked;
    int result = ORIGINAL(int (*)(int, const sigset_t *, sigset_t *), MASK)(how, without(new, &copy), old);
    if (result != 0) return result;
    if (old) old->__val[0] |= before;
    if (new) blocked = how == SIG_SETMASK ? wanted : how == SIG_BLOCK ? before | wanted : before & ~wanted;
    return 0;
}

static int suspend(const sigset_t *mask)
{
    sigset_t copy;
    return ORIGINAL(int (*)(const sigset_t *), SUSPEND)(without(mask, &copy));
}

static int poll_with(struct pollfd *fds, nfds_t n, const struct timespec *time, const sigset_t *mask)
{
    sigset_t copy;
    return ORIGINAL(int (*)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *), PPOLL)(fds, n, time, without(mask, &copy));
}

static int select_with(int n, fd_set *r, fd_set *w, fd_set *e, const struct timespec *time, const sigset_t *mask)
{
    sigset_t copy;
    return ORIGINAL(int (*)(int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *), PSELECT)(n, r, w, e, time, without(mask, &copy));
}

static int epoll_with(int fd, struct epoll_event *events, int most, int time_ms, const sigset_t *mask)
{
    sigset_t copy;
    return ORIGINAL(int (*)(int, struct epoll_event *, int, int, const sigset_t *), EPOLL)(fd, events, most, time_ms, without(mask, &copy));
}

static int epoll_with2(int fd, struct epoll_event *events, int most, const struct timespec *time, const sigset_t *mask)
{
    sigset_t copy;
    return ORIGINAL(int (*)(int, struct epoll_event *, int, const struct timespec *, const sigset_t *), EPOLL2)(fd, events, most, time, without(mask, &copy));
}

const struct atf_taken *atf_taken_at(uint32_t i)
{
    static const struct atf_taken all[] = {
        [ACTION] = {"sigaction", action, &originals[ACTION], 1},
        [MASK] = {"pthread_sigmask", thread_mask, &originals[MASK], 1}, /* sigprocmask is this one too */
        [SUSPEND] = {"sigsuspend", suspend, &originals[SUSPEND], 1},
        [PPOLL] = {"ppoll", poll_with, &originals[PPOLL], 1},
        [PSELECT] = {"pselect", select_with, &originals[PSELECT], 1},
        [EPOLL] = {"epoll_pwait", epoll_with, &originals[EPOLL], 1},
        [EPOLL2] = {"epoll_pwait2", epoll_with2, &originals[EPOLL2], 0}, /* glibc 2.35 */
    };
    return i < sizeof all / sizeof *all ? &all[i] : NULL;
}
