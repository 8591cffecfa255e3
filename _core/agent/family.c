/* What the processes of a session share: its directory, the file of the family there, and files that they leave for the recorder.
 * System calls only, texts in static memory: one thread at a time is here, in a forked child's first event or before main. */
#include "agent.h"
#include "family.h"
#include "text.h"
#include <sys/mman.h>

#define AT_HERE -100
#define READ_CLOEXEC 0x80000
#define NEW_CLOEXEC (0x80000 | 0x1 | 0x40 | 0x80) /* O_WRONLY | O_CREAT | O_EXCL */

static atf_family *family; /* NULL: nobody is followed */
static char session[2048], stopped[2100];

atf_family *atf_family_here(void) { return family; }
const char *atf_family_session(void) { return session; }

/* The session's directory, and the file there that its processes share. 0: there is none. */
int atf_family_open(const char *directory)
{
    static char path[2100];
    atf_text t = atf_text_in(session, sizeof session), f = atf_text_in(path, sizeof path), s = atf_text_in(stopped, sizeof stopped);
    atf_text_put(&t, directory);
    atf_text_put(&s, directory);
    atf_text_put(&s, "/stopped");
    atf_text_put(&f, directory);
    atf_text_put(&f, "/" ATF_FAMILY_FILE);
    long fd = t.full || f.full ? -1 : atf_call(SYS_openat, AT_HERE, (long)path, 02 | READ_CLOEXEC, 0, 0, 0);
    if (fd < 0) return 0;
    long at = atf_call(SYS_mmap, 0, sizeof(atf_family), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    atf_call(SYS_close, fd, 0, 0, 0, 0, 0);
    if (at < 0 && at > -4096) return 0;
    atf_family *found = (atf_family *)at;
    if (found->magic == ATF_FAMILY_MAGIC && found->version == ATF_FAMILY_VERSION) {
        family = found;
        return 1;
    }
    atf_call(SYS_munmap, at, sizeof(atf_family), 0, 0, 0, 0);
    return 0;
}

long atf_read_whole(const char *path, char *to, long room)
{
    long fd = atf_call(SYS_openat, AT_HERE, (long)path, READ_CLOEXEC, 0, 0, 0), n = 0, got = 1;
    if (fd < 0) return 0;
    while (n < room && (got = atf_call(SYS_read, fd, (long)(to + n), room - n, 0, 0, 0)) > 0) n += got;
    atf_call(SYS_close, fd, 0, 0, 0, 0, 0);
    return n;
}

/* Field 22; the name before it may hold anything, so fields are counted from the last `)`. */
uint64_t atf_process_start(uint32_t pid)
{
    static char stat[1024], path[32];
    atf_text p = atf_text_in(path, sizeof path);
    atf_text_put(&p, "/proc/");
    atf_text_number(&p, pid);
    atf_text_put(&p, "/stat");
    long n = atf_read_whole(path, stat, sizeof stat), at = n;
    while (at > 0 && stat[at - 1] != ')') at--;
    int field = 2;
    uint64_t start = 0;
    for (; at > 0 && at < n && field <= 22; at++) {
        if (stat[at] == ' ') field++;
        else if (field == 22 && stat[at] >= '0' && stat[at] <= '9') start = start * 10 + (uint64_t)(stat[at] - '0');
    }
    return start;
}

/* Writes a file of the session's directory at once: whoever reads sees all or nothing. */
int atf_family_write(const char *name, const atf_text *content)
{
    static char path[2400], temporary[2500];
    atf_text p = atf_text_in(path, sizeof path), q = atf_text_in(temporary, sizeof temporary);
    atf_text_put(&p, session);
    atf_text_char(&p, '/');
    atf_text_put(&p, name);
    atf_text_put(&q, path);
    atf_text_put(&q, ".tmp");
    if (p.full || q.full) return 0;
    long fd = atf_call(SYS_openat, AT_HERE, (long)temporary, NEW_CLOEXEC, 0600, 0, 0);
    if (fd < 0) return 0;
    long wrote = atf_call(SYS_write, fd, (long)content->start, (long)content->n, 0, 0, 0);
    atf_call(SYS_close, fd, 0, 0, 0, 0, 0);
    if (wrote == (long)content->n && atf_call(SYS_renameat, AT_HERE, (long)temporary, AT_HERE, (long)path, 0, 0) == 0) return 1;
    atf_call(SYS_unlinkat, AT_HERE, (long)temporary, 0, 0, 0, 0);
    return 0;
}

static int session_is(void)
{
    long there = atf_call(SYS_faccessat, AT_HERE, (long)session, 2 | 1, 0, 0, 0);
    if (there == 0) return atf_call(SYS_faccessat, AT_HERE, (long)stopped, 0, 0, 0, 0) == 0 ? ATF_SESSION_OVER : ATF_SESSION_OPEN;
    return there == -13 /* EACCES */ ? ATF_SESSION_CLOSED : ATF_SESSION_OVER;
}

/* 0: it was not there. */
int atf_family_forget(const char *name)
{
    static char path[2400];
    atf_text p = atf_text_in(path, sizeof path);
    atf_text_put(&p, session);
    atf_text_char(&p, '/');
    atf_text_put(&p, name);
    return atf_call(SYS_unlinkat, AT_HERE, (long)path, 0, 0, 0, 0) == 0;
}

/* A recorder of another user answers EPERM: it is there. */
static int recorder_there(void) { return family->recorder_pid && atf_call(SYS_kill, family->recorder_pid, 0, 0, 0, 0, 0) != -3 /* ESRCH */; }

int atf_family_state(void) { return recorder_there() ? session_is() : ATF_SESSION_OVER; }
