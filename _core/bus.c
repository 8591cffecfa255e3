/* A file that is cut while it is mapped leaves pages behind that kill whoever touches them (SIGBUS).
 *
 * The handler lays zero pages over the rest of the mapping, from the touched page on, and sets the mapping's `damaged`; the touch then
 * goes on and reads zeros, and whoever asked looks at the flag before it believes what it has read. Everything behind the
 * touched page is gone with it, so one fault a mapping is enough, and the number of memory areas stays small.
 * Only the address of a registered mapping is helped; all else goes to the handler that was there before.
 *
 * Async-signal-safe: loads, stores, raise, and the system calls mmap and sigaction.
 */
#include "bus.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

static atf_mappings *guarded;
static uintptr_t page_bytes;
static struct sigaction before;
static _Atomic uint64_t hits;

static void pass_on(int number, siginfo_t *info, void *context) {
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else { /* the instruction runs again, and ends the process as it would have without us */
        sigaction(number, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
        if (info->si_code <= 0) /* it was sent: nothing runs again */
            raise(number);
    }
}

static void on_bus_error(int number, siginfo_t *info, void *context) {
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    atf_mapping *mapping = info->si_code == BUS_ADRERR ? atf_mapping_find(guarded, address) : NULL;
    if (mapping != NULL) {
        uintptr_t page = address & ~(page_bytes - 1);
        int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        if (mmap((void *)page, mapping->end - page, PROT_READ, flags, -1, 0) != MAP_FAILED) {
            atomic_store_explicit(&mapping->damaged, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&hits, 1, memory_order_release); /* meets the acquire in atf_busguard_hits */
            errno = saved;
            return;
        }
    }
    pass_on(number, info, context);
    errno = saved;
}

int atf_busguard_install(atf_mappings *mappings) {
    if (guarded != NULL)
        return 0;
    page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    guarded = mappings;
    struct sigaction ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, &ours, &before) == 0)
        return 0;
    guarded = NULL;
    return errno;
}

uint64_t atf_busguard_hits(void) { return atomic_load_explicit(&hits, memory_order_acquire); }
