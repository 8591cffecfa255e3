/* One recorded process as the drain sees it: its three segments on one side, its directory on the other.
 * Everything here runs on the drain's thread. Never includes Python.h. */
#ifndef ATF_SOURCE_H
#define ATF_SOURCE_H
#include "asked.h"
#include "history.h"
#include "metrics.h"
#include "policy.h"
#include "pressure.h"
#include "progress.h"
#include "timescale.h"
#include "turns.h"
#include "writer.h"

#define ATF_STAGE_EVENTS 16384
#define ATF_STAGE_BYTES (1u << 20)

/* One thread's way from rings to files. `expected` is the number of the next record to write; because every
 * loss stands in the file as a GAP, expected = events - gaps + lost holds for the file alone. */
typedef struct atf_output {
    uint32_t number, tid, slot;    /* slot: index, or UINT32_MAX: only the global lane */
    uint32_t entered, finished;
    uint32_t in_earlier;           /* a dead recorder left its files in an earlier part, where they go on */
    uint32_t refused;              /* files of a dead recorder are there and cannot be gone on with: they and the rings stay as they are */
    uint64_t expected, last_ns;
    uint64_t from;                 /* of `expected`: records of earlier parts */
    uint64_t pending_lost;         /* refused by the disk, not yet told by a GAP */
    uint64_t lost[8];              /* by gap reason */
    uint64_t details_lost, orphans;
    atf_thread_metrics m;
    uint64_t slot_from[3];         /* taken_back, details_lost and blocked_ns of the slot when this part began */
    atf_progress progress;         /* when the recording has parts: calls in progress behind the last record that was read */
    uint64_t details_gone;         /* of details_lost: taken back before they were read */
    atf_pressure pressure[2];      /* of its lanes: ATF_LANE_INDEX, ATF_LANE_DETAIL */
    /* the flight recorder's */
    atf_history history;           /* seen, and neither kept nor forgotten yet */
    atf_watch *watch;              /* NULL: no rule about durations */
    atf_calls *calls;              /* NULL: no condition in Python */
    uint64_t unkept;               /* records that were forgotten since the last one in the file, what forgotten GAPs told too */
    uint64_t details_unkept;
    uint32_t in_flight, opened;    /* in its list; the files were made */
    struct atf_output *kept_next;
    atf_writer w;
    char name[48];
} atf_output;

typedef struct atf_source {
    atf_control *control;
    atf_registry *registry;
    atf_global_lane *global;
    char dir[3800];
    atf_output **outputs; /* in order of thread numbers; those that ended in earlier parts are gone */
    uint32_t n_outputs, outputs_room;
    uint32_t resume;      /* files of a dead recorder may exist; 2: in the part before, too */
    uint32_t dead;        /* the producer process is gone: nobody will write on */
    uint32_t *seen;       /* attention per slot */
    uint32_t start;       /* the slot that was visited last */
    int pressed;          /* the last pass found half of a lane's rings full: the nap before it was long */
    int behind;           /* the last pass left full rings */
    int disk_error;       /* the last errno, 0: none */
    uint64_t events, bytes, writes;
    atf_source_metrics m;
    atf_pressure pressure; /* of the global lane */
    atf_periods periods;   /* of all lanes */
    uint32_t refused;     /* outputs that are */
    const atf_turns *turns;    /* the engine's; NULL: nobody waits */
    struct atf_parts *parts;   /* the engine's; NULL: there is one part */
    uint64_t *part_bytes, part_most; /* of the part that is written now, all processes; how many it may have, 0: no limit */
    uint64_t part_events;            /* without what it begins with */
    struct atf_flight *flight; /* the engine's; NULL: everything is written as it comes */
    atf_functions functions;   /* of this process, as its rules name them */
    uint64_t named_ns;         /* functions that were called before this are named */
    uint32_t last_detail_index;
    uint64_t next_anchor_ticks;
    atf_timescale scale;
    /* staging; events and details leave it together */
    atf_event *stage;
    uint8_t *stage_details;
    uint32_t staged, staged_details;
    uint64_t staged_bytes;
    /* the detail ring under the cursor, by its number in the lane; ATF_NO_RING: none */
    uint32_t detail_ring, detail_claimed;
    uint64_t detail_at, detail_number, detail_end;
} atf_source;

/* 0, or an errno. The segments must stay attached until atf_source_close. */
int atf_source_open(atf_source *s, atf_control *c, atf_registry *r, atf_global_lane *g, const char *dir, int resume);
void atf_source_close(atf_source *s);

/* One round over all threads, at most one more ring than a lane has of each, so that a fast one does not starve the others.
 * peek: also what is committed in rings that are not full yet. After budget_ns (0: no end), or when somebody
 * waits for the engine's lock, it stops after a ring, and the next pass goes on there. Returns records written. */
uint64_t atf_source_pass(atf_source *s, int peek, uint64_t budget_ns);

/* Everything that is committed goes to the files, which get their footers. The producers must have stopped. */
void atf_source_finish(atf_source *s);
void atf_source_rest(atf_source *s); /* afterwards: only its numbers are asked for */

/* The parts. atf_output_drain: events below number `below` out of at most `quantum` rings; returns how many rings it read. */
uint32_t atf_output_drain(atf_source *s, atf_output *o, uint64_t below, int peek, int in_global, uint32_t quantum);
void atf_output_put(atf_source *s, atf_output *o, uint64_t seq, const atf_event *e); /* one event out of the global lane */
uint64_t atf_output_ns(atf_source *s, atf_output *o, uint64_t ticks);
void atf_output_finish(atf_source *s, atf_output *o, uint64_t produced);
void atf_output_next_part(atf_source *s, atf_output *o, uint64_t from_ns); /* its files are complete: the next ones begin */
void atf_output_free(atf_output *o);
void atf_output_write(atf_source *s, atf_output *o); /* what is staged, as it is */
/* Brings the numbers up to date that stand in slots. Not after atf_source_finish, which does it. */
void atf_source_measure(atf_source *s);
void atf_source_lag(atf_source *s, uint64_t oldest_ticks); /* of a ring that is about to be read */
void atf_output_look(atf_source *s, atf_output *o, int over); /* at its lanes' pressure, before they are read; over: for the last time */
int atf_source_drain_global(atf_source *s);
static inline int atf_source_full(const atf_source *s) { return s->part_bytes && s->part_most && *s->part_bytes >= s->part_most; }
atf_output *atf_source_output(atf_source *s, uint32_t number, uint32_t tid);
const uint8_t *atf_link_find(atf_source *s, atf_output *o, uint32_t number, int *flush);
void atf_link_close(atf_source *s, atf_output *o);
void atf_link_sweep(atf_source *s, atf_output *o);
#endif
