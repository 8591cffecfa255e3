/* A recording in parts: when one is large or old enough, between two passes, its files are completed and the next ones begin. Each part
 * is a directory with a directory of each process in it: <root>/part_<number>/<name of the process>.
 *
 * Runs on the drain's thread, under the engine's lock. What a part left is kept until somebody fetches it, for the manifests.
 * Never includes Python.h. */
#ifndef ATF_PARTS_H
#define ATF_PARTS_H
#include "source.h"

#define ATF_PART_NAME "part_%04u"
#define ATF_PARTS_WAITING 64
#define ATF_PART_RETRY_NS 1000000000u /* a disk that refused the next part's directories is asked again */

/* One process at the end of a part. */
typedef struct atf_left {
    struct atf_left *next;
    const atf_source *source; /* which: not to be followed */
    uint32_t part, n;
    uint64_t ended_ns;        /* CLOCK_BOOTTIME: the next part's files begin with it */
    atf_output *outputs;      /* copies, n of them */
    atf_pressure pressure;    /* of its global lane */
    atf_periods periods;
} atf_left;

typedef struct atf_parts {
    char root[3600];
    uint64_t max_bytes, max_age_ns; /* 0: no limit */
    uint32_t number;                /* of the part that is written now; the first is 1 */
    uint64_t began_ns, retry_ns;    /* CLOCK_MONOTONIC */
    uint64_t bytes;                 /* of this part */
    uint64_t over_events;           /* of this part, from processes that are over */
    int asked;                      /* end this part, however small it is */
    int error;                      /* the last errno, 0: none */
    uint32_t waiting;               /* so many are in the list: at ATF_PARTS_WAITING none ends any more */
    atf_left *left, **last;         /* oldest first */
} atf_parts;

/* 0 or an errno. */
int atf_parts_open(atf_parts *p, const char *root, uint64_t max_bytes, uint64_t max_age_ns);
void atf_parts_close(atf_parts *p);
void atf_left_free(atf_left *l);
/* A process comes: its directory is in the part that is written now. 0 or an errno. */
int atf_parts_join(atf_parts *p, atf_source *s);
/* A process is over; its files are complete. */
void atf_parts_leave(atf_parts *p, atf_source *s);
/* After a pass: turns to the next part when it is time. Returns whether it did. */
int atf_parts_look(atf_parts *p, atf_source **sources, uint32_t n);
uint32_t atf_part_of(const atf_source *s); /* the number in its directory; 0: none */
/* Changes a directory of a process to that of the part before. 0: there is none. */
int atf_part_before(char *dir);
#endif
