/* What the agent keeps for a thread, as C and the assembly of hot.S see it. Offsets that both use are numbers here and are
 * checked against the structs below. Never includes Python.h. */
#ifndef ATF_AGENT_THREAD_H
#define ATF_AGENT_THREAD_H

#include "arch.h"

#define T_GATE 0
#define T_HEAD 8
#define T_BASE 16
#define T_NEGCAP 24
#define T_CALL 32
#define T_RETURN 40
#define T_TOP 48
#define T_LEAST 56
#define T_FILTERED 64
#define T_RAISING 72
#define T_SEEN -4096 /* in the page before: the kernel zeroes it in a forked child */
#define T_SEEN_BIAS 0x40000000

#define E_RET 0
#define E_SLOT 8
#define E_STUB 16
#define E_DEPTH 24
#define E_WALL 28
#define E_START 32
#define ATF_START_TO_COME 0x7FFFFFFFFFFFFFFF /* in `start`: the call has no time yet; later than everything */
#define E_SIZE 40

/* Of a stub's flags; where they stand in it: arch.h. */
#define STUB_ENTRY_ONLY 1
#define STUB_DETAILS 2 /* its calls go through C, with their registers */
#define STUB_TEXTS(flags) ((flags) >> 16 & 0x3F) /* argument registers that hold texts */
#define STUB_TIMED 4   /* recorded only when it lasted long enough: nothing is written at its entry */

#define STUB_FRAMED 0x100 /* the return slot is 8(%rbp): the body begins with `pop 8(%rbp)`, which puts the pushed address there */
#define STUB_FRAMED_POP 3 /* its bytes */
#define STUB_CYG 0x200 /* no stub: a function that reports its calls itself; its frames hold no return address */

#ifndef __ASSEMBLER__
#include "../producer.h"

#define ATF_KEPT 512
#define ATF_CAPTURE_MOST 1408   /* bytes of one detail */
#define ATF_CAPTURED_FRAMES 4096 /* so deep calls keep their details until it is known that they are recorded */

/* A frame whose return address is ours. `slot`: where that return address stands; 0 while the entry is being made. A frame
 * whose slot holds `ret` again was given back for an unwinder to see. `start`, ticks: its CALL is not written yet, and will be
 * when it has lasted long enough; 0: it is written, or never will be (always so above the top). */
typedef struct atf_frame {
    uint64_t ret;
    uint64_t slot;
    const uint8_t *stub; /* stub + STUB_RET_ENTER */
    uint32_t depth;
    uint32_t wall; /* 1: the last one, never used */
    uint64_t start;
} atf_frame;

typedef struct atf_agent_thread {
    /* the record path's */
    const uint32_t *gate;
    uint64_t *head; /* of the ACTIVE ring; the one truth about how many records it holds. &no_head: none */
    atf_event *base;
    int64_t negcap; /* minus its capacity */
    uint64_t call_word, return_word; /* thread id, kind in the upper half */
    atf_frame *top;
    int64_t least;     /* minus the ticks that a call must last; 0: all are recorded */
    uint64_t filtered; /* calls that did not */
    uint32_t raising;   /* an exception was thrown and is not caught yet */
    uint32_t beyond;    /* reported calls that found no room on the shadow stack */
    atf_frame *raised;  /* up to here frames were there when it was thrown */

    /* slow paths' */
    atf_frame *bottom; /* sentinel below the first frame: its slot is above every address */
    uint64_t home_low, home_high; /* the stack it began on; 0: unknown */
    uint64_t bytes;               /* of this block and its shadow stack */
    uint32_t tid, rounds, finished, serial;
    uint32_t unwinding;   /* return addresses were given back for an unwinder; what is taken off now ended by an exception */
    uint32_t restartable; /* 0: no rseq, so no fast path: a signal handler could write into a record that is being made */
    uint64_t at_work; /* inside a slow path */
    uint64_t unwritten;         /* records that found no room there: a gap in the numbers at the next ring */
    uint32_t aside, aside_open; /* records in `kept`, and calls among them that have not returned */
    uint32_t undetailed;        /* calls among `kept` whose details there was no time for */
    uint64_t filtered_told;     /* of `filtered`, in the plan already */
    uint8_t *captured;          /* ATF_CAPTURE_MOST bytes for each of ATF_CAPTURED_FRAMES; NULL: none yet */
    uint8_t scratch[ATF_CAPTURE_MOST]; /* a detail while it is made: the program's stack may be small */
    atf_event kept[ATF_KEPT];   /* what signal handlers did while the thread was in a slow path: written when it leaves it */
    uint64_t quiet_before; /* of a Python record with a detail, between the two */
    uint32_t detail_open;
    struct atf_agent_thread *next;
    atf_thread core;
} atf_agent_thread;

_Static_assert(offsetof(atf_agent_thread, head) == T_HEAD && offsetof(atf_agent_thread, base) == T_BASE, "thread");
_Static_assert(offsetof(atf_agent_thread, negcap) == T_NEGCAP && offsetof(atf_agent_thread, call_word) == T_CALL, "thread");
_Static_assert(offsetof(atf_agent_thread, return_word) == T_RETURN && offsetof(atf_agent_thread, top) == T_TOP, "thread");
_Static_assert(offsetof(atf_agent_thread, raising) == T_RAISING, "thread");
_Static_assert(offsetof(atf_frame, slot) == E_SLOT && offsetof(atf_frame, stub) == E_STUB && offsetof(atf_frame, depth) == E_DEPTH, "frame");
_Static_assert(offsetof(atf_agent_thread, least) == T_LEAST && offsetof(atf_agent_thread, filtered) == T_FILTERED, "thread");
_Static_assert(offsetof(atf_frame, start) == E_START, "frame");
_Static_assert(offsetof(atf_frame, wall) == E_WALL && sizeof(atf_frame) == E_SIZE, "frame");

/* The shadow stack begins behind the block. */
#define ATF_THREAD_BYTES ((sizeof(atf_agent_thread) + 4095) / 4096 * 4096)

/* The word in the page before the block. */
static inline uint32_t *atf_seen(atf_agent_thread *t) { return (uint32_t *)((char *)t + T_SEEN); }
#endif
#endif
