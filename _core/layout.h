/* What stands in the three System V segments of a recorded process. Data only; never includes Python.h.
 *
 *   control    one atf_control
 *   registry   one atf_registry, then `capacity` atf_slot, then the names log
 *   rings      one atf_global_lane with its cells, then per slot its index rings and its detail rings, then the spare rings
 *
 * Only offsets stand here, never pointers. Fields are grouped by who writes them; groups that different
 * threads write stand ATF_LINE bytes apart (two cache lines, because the prefetcher fetches pairs). */
#ifndef ATF_LAYOUT_H
#define ATF_LAYOUT_H
#include "atomics.h"
#include "format.h"

#define ATF_LINE 128
#define ATF_ALIGNED __attribute__((aligned(ATF_LINE)))
#define ATF_SEGMENT_MAGIC 0x53465441u /* "ATFS" */
#define ATF_LAYOUT_VERSION 3u
#define ATF_MAX_RINGS 8
#define ATF_MAX_SPARES 64
#define ATF_ANCHORS 64
#define ATF_MARKS 16
#define ATF_BYGONES 64
#define ATF_DRAIN_SILENT_NS 500000000u /* a drain without a heartbeat for this long is taken for absent */

enum atf_segment_kind { ATF_SEG_CONTROL = 1, ATF_SEG_REGISTRY = 2, ATF_SEG_RINGS = 3 };

typedef struct atf_segment_head {
    uint32_t magic;
    uint16_t version, kind;
    uint32_t owner_pid, reserved;
    uint64_t owner_start; /* start time of the owner, clock ticks since boot (/proc/PID/stat): pids are reused */
    uint64_t bytes;
} atf_segment_head;
_Static_assert(sizeof(atf_segment_head) == 32, "segment head");

/* ---------------------------------------------------------------- control */
enum atf_state { ATF_STATE_NEW = 0, ATF_STATE_RECORDING = 1, ATF_STATE_STOPPED = 2 };
enum atf_mode { ATF_MODE_GLOBAL = 0, ATF_MODE_PER_THREAD = 1 };
enum atf_policy { ATF_DROP_OLDEST = 0, ATF_BLOCK = 1 };
enum atf_clock_type { ATF_CLOCK_TSC = 0, ATF_CLOCK_GETTIME = 1 };

/* One moment read from three clocks: ticks of the record path, CLOCK_BOOTTIME, CLOCK_REALTIME. */
typedef struct atf_anchor {
    uint64_t ticks, boottime_ns, unix_ns;
} atf_anchor;

typedef struct atf_control {
    atf_segment_head head;
    /* written once, by the owner, before anybody else attaches */
    uint32_t clock_type, policy;
    uint32_t drain_expected; /* 0: rings only, nobody will come for them */
    uint32_t level;          /* what the VM hooks record; for people and tools */
    uint64_t block_deadline_ns; /* a blocked producer gives up after this long and drops */
    uint64_t ticks_per_second;  /* first estimate; the anchors are better */

    /* read by every producer at every event; written when something changes that producers must see.
     * The release add on `gate` pairs with the producer's relaxed load and the acquire loads behind it. */
    uint32_t gate ATF_ALIGNED;
    uint32_t state, mode;
    uint32_t registry_ready, registry_version, registry_epoch;
    uint32_t level_wanted; /* by the recorder, bits as in `level`; 0: as it began. Stored before the add on `gate` */

    /* the drain's, written on every pass */
    uint64_t drain_heartbeat_ticks ATF_ALIGNED;
    uint64_t drain_passes;
    uint32_t drain_pid;

    /* anybody's, rare */
    uint64_t mode_transitions ATF_ALIGNED;
    uint64_t fallback_events;  /* events that went through the global lane */
    uint64_t slotless_threads; /* threads that found every slot taken */
    uint64_t capture_ticks;    /* that VM hooks spent on values, when asked to time it; written under the GIL */

    /* the drain's: anchors[i % ATF_ANCHORS], i < anchor_count; the last is written before the count */
    uint64_t anchor_count ATF_ALIGNED;
    atf_anchor anchors[ATF_ANCHORS];
} atf_control;

/* ---------------------------------------------------------------- rings and lanes */
/* FREE -> ACTIVE -> FULL -> DRAINING -> FREE. Who owns a ring in a state: FREE the producer, ACTIVE the
 * producer, FULL whoever moves it on by compare-exchange, TAKEN the producer (on the way from FULL back to
 * ACTIVE: drop-oldest), DRAINING the drain. PEEK is the drain's: while it is set nobody takes a FULL ring. */
enum atf_ring_state { ATF_RING_FREE = 0, ATF_RING_ACTIVE = 1, ATF_RING_FULL = 2, ATF_RING_DRAINING = 3, ATF_RING_TAKEN = 4 };
#define ATF_RING_PEEK 0x100u

/* A ring is filled once from its start to its end, then handed over; it never wraps. The index lane counts
 * in records, the detail lane in bytes. */
typedef struct atf_ring {
    uint32_t state;
    uint32_t drained_details; /* detail lane: how many details `drained` bytes are */
    uint64_t first_seq; /* the producer's number of the first record here; set before the ring is ACTIVE */
    uint64_t drained;   /* consumed so far; the drain's under PEEK or DRAINING, else the producer's */
    uint64_t offset;    /* of the first record, from the start of the rings segment; constant */
    uint64_t capacity;  /* records or bytes; constant, but a spare ring's is set by who borrows it */
    uint64_t head ATF_ALIGNED; /* committed so far; the producer's, one release store a record */
} atf_ring;
_Static_assert(sizeof(atf_ring) == 2 * ATF_LINE, "ring header");

/* The end of a ring that was taken back: number of the record behind its last one, and when that one was written. */
typedef struct atf_mark {
    uint64_t seq, ticks;
} atf_mark;

/* FREE -> CLAIMED -> LIVE -> EXITED -> FREE: the last step is the drain's, after everything is in the file. Where nobody drains,
 * a new thread that finds none FREE takes EXITED -> CLAIMED: see recycle.h. */
enum atf_slot_state { ATF_SLOT_FREE = 0, ATF_SLOT_CLAIMED = 1, ATF_SLOT_LIVE = 2, ATF_SLOT_EXITED = 3 };

typedef struct atf_slot {
    uint32_t state;
    uint32_t pid, tid;
    uint32_t number;     /* n of thread_<n>: counts threads of the process, never reused */
    uint32_t prefaulted; /* the ring memory was touched once already */
    uint32_t entered;    /* calls that were in progress when the thread was first seen */
    uint64_t name[6];    /* UTF-8 in 48 bytes, zero-terminated; read and written by atf_slot_name_get and _put */

    uint32_t attention ATF_ALIGNED; /* producer adds 1 (release) when a ring is full or the thread ends; the drain's acquire load pairs */

    uint64_t next_seq ATF_ALIGNED;  /* producer's, on slow paths only: number of its next record */
    uint64_t lost_newest;           /* records dropped because no ring could be had */
    uint64_t details_lost;          /* details dropped by the producer */
    uint64_t taken_back;            /* rings taken back (drop-oldest) */
    uint64_t blocked_ns;            /* time spent waiting under the block policy */
    uint64_t begun_ticks;           /* 0: it had written before it got the slot */
    uint64_t exited_ticks;
    atf_mark gone[ATF_MARKS];       /* of ring number i that was taken back: gone[i % ATF_MARKS], written before it is TAKEN and counted */

    uint64_t index_spares ATF_ALIGNED; /* bit k: spare ring k is in this lane; the producer sets it, the drain clears it */
    uint64_t detail_spares;

    atf_ring index[ATF_MAX_RINGS] ATF_ALIGNED;
    atf_ring detail[ATF_MAX_RINGS];
} atf_slot;

/* A thread whose slot another one took, with all that was there. */
typedef struct atf_bygone {
    uint64_t numbers; /* its own << 32 | its tid */
    uint64_t records, begun_ticks, exited_ticks;
} atf_bygone;

typedef struct atf_registry {
    atf_segment_head head;
    uint32_t capacity;       /* slots */
    uint32_t index_rings, detail_rings; /* per slot */
    uint32_t spare_rings;    /* of the whole process, for threads whose own rings are full: see lane.h */
    uint64_t index_bytes, detail_bytes, spare_bytes; /* of one ring */
    uint64_t slots_offset, names_offset, names_capacity;
    uint32_t thread_counter ATF_ALIGNED; /* next thread number */
    /* The names log: atf_name entries, appended under the producer process's own lock (the GIL), never moved.
     * The release store of names_tail pairs with the reader's acquire load. */
    uint64_t names_tail ATF_ALIGNED;
    uint64_t names_lost;
    uint64_t spares_free ATF_ALIGNED; /* bit k: spare ring k is in nobody's lane */
    uint64_t spares_most;             /* so many were borrowed at once; about, for people */
    atf_ring spares[ATF_MAX_SPARES] ATF_ALIGNED;
    uint32_t bygone ATF_ALIGNED; /* threads whose slots others took */
    atf_bygone bygones[ATF_BYGONES]; /* number i: bygones[i % ATF_BYGONES]; word by word, after the count */
} atf_registry;

enum atf_name_kind { ATF_NAME_MODULE = 1, ATF_NAME_FUNCTION = 2 };

/* One name, padded to 8 bytes. Module: id is the module id, text = name NUL path NUL.
 * Function: id is the function id, text = qualified name NUL file NUL (file empty: the module's). */
typedef struct atf_name {
    uint32_t length; /* this header included, padding too */
    uint32_t kind;
    uint64_t id;
    uint32_t line;
    uint32_t text_bytes;
} atf_name;
_Static_assert(sizeof(atf_name) == 24, "name header");

/* ---------------------------------------------------------------- global lane */
/* Bounded, many producers, one consumer. A cell's turn says whose it is: turn == position: free for the
 * producer that claims this position; turn == position + 1: written, the drain's. */
typedef struct atf_cell {
    uint64_t turn;
    uint64_t seq;    /* the thread's own number of this record */
    uint32_t number; /* the thread's */
    uint32_t tid;
    uint64_t reserved;
    atf_event event;
} atf_cell;
_Static_assert(sizeof(atf_cell) == 64, "global lane cell");

typedef struct atf_global_lane {
    atf_segment_head head;
    uint64_t capacity, cells_offset; /* capacity is a power of two */
    uint64_t tail ATF_ALIGNED;       /* producers', by compare-exchange */
    uint64_t consumed ATF_ALIGNED;   /* the drain's */
    uint64_t tidied_ticks;           /* without a drain: when the last record was written that made room for others */
    uint64_t dropped ATF_ALIGNED;    /* producers', relaxed: lane was full */
} atf_global_lane;

/* ---------------------------------------------------------------- where things are */
static inline atf_slot *atf_slot_at(atf_registry *r, uint32_t i)
{
    return (atf_slot *)((char *)r + r->slots_offset) + i;
}
static inline atf_cell *atf_cell_at(atf_global_lane *g, uint64_t position)
{
    return (atf_cell *)((char *)g + g->cells_offset) + (position & (g->capacity - 1));
}

/* A name is given while the drain may look: word by word, so that both see whole words. A name that was read while it
 * was written is read again on the next visit. `text`: 48 bytes. */
static inline void atf_slot_name_get(const atf_slot *s, char *text)
{
    uint64_t words[6];
    for (int i = 0; i < 6; i++) words[i] = atf_load_relaxed64(&s->name[i]);
    words[5] &= UINT64_MAX >> 8; /* little-endian: the last byte stays zero */
    __builtin_memcpy(text, words, sizeof words);
}
static inline void atf_slot_name_put(atf_slot *s, const char *text, size_t bytes)
{
    uint64_t words[6] = {0, 0, 0, 0, 0, 0};
    __builtin_memcpy(words, text, bytes < 47 ? bytes : 47);
    for (int i = 0; i < 6; i++) atf_store_relaxed64(&s->name[i], words[i]);
}

/* Sizes and offsets follow from these numbers alone, so that both sides of a size check agree. */
typedef struct atf_geometry {
    uint32_t slots, index_rings, detail_rings, spare_rings;
    uint64_t index_bytes, detail_bytes, spare_bytes; /* of one ring; multiples of 4096 */
    uint64_t global_cells, names_bytes;
} atf_geometry;

static inline uint64_t atf_registry_bytes(const atf_geometry *g)
{
    return sizeof(atf_registry) + g->slots * sizeof(atf_slot) + g->names_bytes;
}
static inline uint64_t atf_rings_start(const atf_geometry *g)
{
    return (sizeof(atf_global_lane) + g->global_cells * sizeof(atf_cell) + 4095) / 4096 * 4096;
}
static inline uint64_t atf_slot_ring_bytes(const atf_geometry *g)
{
    return g->index_rings * g->index_bytes + g->detail_rings * g->detail_bytes;
}
static inline uint64_t atf_spares_start(const atf_geometry *g)
{
    return atf_rings_start(g) + g->slots * atf_slot_ring_bytes(g);
}
static inline uint64_t atf_rings_bytes(const atf_geometry *g)
{
    return atf_spares_start(g) + g->spare_rings * g->spare_bytes;
}
#endif
