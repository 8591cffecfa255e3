/* The family: one small file in a session's directory, shared by the controller and by every process that descends from a
 * traced one. Fields have one writer each, or are counted by atomic adds. Never includes Python.h. */
#ifndef ATF_FAMILY_H
#define ATF_FAMILY_H
#include <stddef.h>
#include <stdint.h>

#define ATF_FAMILY_MAGIC 0x46465441u /* "ATFF" */
#define ATF_FAMILY_VERSION 1u
#define ATF_FAMILY_FILE "family" /* its name in the session's directory */

typedef struct atf_family {
    uint32_t magic, version;
    /* controller's */
    uint32_t recorder_pid; /* when it is gone nobody begins any more */
    uint32_t most;         /* forked children whose segments may be there at a time */
    uint32_t drained;      /* forked children whose segments are gone again */
    uint32_t wait_ms;      /* an executed program waits no longer than this for its plan */
    /* agents', relaxed adds: `made` less `drained` is compared with `most`, a few too many do no harm */
    uint32_t made;         /* forked children that have segments or had */
    uint32_t unrecorded;   /* forked children that recorded nothing: too many, or the system refused */
    uint32_t untouched;    /* programs executed as they are: the loader would not take the agent in */
    uint32_t late;         /* programs executed whose plan did not come in time */
    uint64_t recorder_start; /* controller's: with the id it names one process for ever */
    uint32_t reserved[4];
} atf_family;
_Static_assert(sizeof(atf_family) == 64, "family");

/* ---- family.c ---- */
struct atf_text;
atf_family *atf_family_here(void);        /* NULL: nobody is followed */
const char *atf_family_session(void);     /* the session's directory */
int atf_family_open(const char *session); /* 0: there is none any more */
/* CLOSED: this process has not the right (any more) to leave anything in the session's directory. */
enum atf_session_state { ATF_SESSION_OPEN = 0, ATF_SESSION_OVER = 1, ATF_SESSION_CLOSED = 2 };
int atf_family_state(void);
int atf_family_write(const char *name, const struct atf_text *content); /* at once: whoever reads sees all or nothing; 0: refused */
int atf_family_forget(const char *name);                                /* 0: it was not there */
uint64_t atf_process_start(uint32_t pid); /* clock ticks after boot; 0: there is no such process */
long atf_read_whole(const char *path, char *to, long room);
#endif
