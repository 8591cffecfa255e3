/* How close a lane is to losing records, as the drain sees it at its visits: a state with hysteresis, and the periods in which it was
 * not well. Pure: numbers in, a state out. Never includes Python.h.
 *
 *   NORMAL --free below a quarter--> PRESSURE --none free, or something was lost--> DROPPING
 *   PRESSURE, DROPPING --half is free--> RECOVERY --half stays free for a second--> NORMAL
 *
 * From any state a lane with none free, or with a loss since the last look, is DROPPING; RECOVERY falls back to PRESSURE. */
#ifndef ATF_PRESSURE_H
#define ATF_PRESSURE_H
#include <stdint.h>

#define ATF_STABLE_NS 1000000000u
#define ATF_PERIODS 256 /* listed for a process: the newest */
#define ATF_NO_THREAD UINT32_MAX

enum atf_lane_state { ATF_LANE_NORMAL = 0, ATF_LANE_PRESSURE = 1, ATF_LANE_DROPPING = 2, ATF_LANE_RECOVERY = 3 };
enum atf_lane_kind { ATF_LANE_INDEX = 0, ATF_LANE_DETAIL = 1, ATF_LANE_GLOBAL = 2 };

typedef struct atf_pressure {
    uint32_t state;
    uint32_t entered[4];  /* how often each state was entered */
    uint64_t half_ns;     /* in RECOVERY: since when half is free without a break */
    uint64_t lost, signs; /* at the last look: records known to be missing; what producers count before the drain knows how many */
    uint64_t period;      /* its open one, or the last: counts from 1; 0: none yet */
} atf_pressure;

/* A stretch of PRESSURE or DROPPING. end_ns 0: it lasts. */
typedef struct atf_period {
    uint32_t number; /* the thread's; ATF_NO_THREAD: the global lane */
    uint16_t lane, state;
    uint64_t start_ns, end_ns, lost;
} atf_period;

typedef struct atf_periods {
    uint64_t n; /* ever begun; period k (from 1) stands at (k - 1) % ATF_PERIODS until it is written over */
    atf_period list[ATF_PERIODS];
} atf_periods;

static inline uint32_t atf_pressure_next(const atf_pressure *p, uint64_t free, uint64_t total, int lost, uint64_t ns)
{
    int half = 2 * free >= total;
    if (lost || !free) return ATF_LANE_DROPPING;
    if (4 * free < total) return p->state == ATF_LANE_DROPPING ? ATF_LANE_DROPPING : ATF_LANE_PRESSURE;
    if (p->state == ATF_LANE_NORMAL) return ATF_LANE_NORMAL;
    if (p->state != ATF_LANE_RECOVERY) return half ? ATF_LANE_RECOVERY : p->state;
    return half && p->half_ns && ns - p->half_ns >= ATF_STABLE_NS ? ATF_LANE_NORMAL : ATF_LANE_RECOVERY;
}

/* One look. free, total: rings (cells) that could be had and that there are, total > 0; ns never goes back. Returns the state. */
static inline uint32_t atf_pressure_step(atf_pressure *p, uint64_t free, uint64_t total, int lost, uint64_t ns)
{
    uint32_t next = atf_pressure_next(p, free, total, lost, ns);
    if (next == ATF_LANE_RECOVERY) {
        if (2 * free < total) p->half_ns = 0;
        else if (p->state != ATF_LANE_RECOVERY || !p->half_ns) p->half_ns = ns;
    }
    if (next != p->state) p->entered[next]++;
    return p->state = next;
}

static inline atf_period *atf_period_at(atf_periods *all, uint64_t k)
{
    return k && k + ATF_PERIODS > all->n ? &all->list[(k - 1) % ATF_PERIODS] : (atf_period *)0;
}

/* One look with its bookkeeping. lost, signs: counts since the lane began. Whatever was lost is told by exactly one DROPPING period. */
static inline void atf_pressure_look(atf_pressure *p, atf_periods *all, uint32_t number, uint32_t lane, uint64_t free, uint64_t total, uint64_t lost,
                                     uint64_t signs, uint64_t ns)
{
    uint64_t more = lost > p->lost ? lost - p->lost : 0;
    uint32_t before = p->state, now = atf_pressure_step(p, free, total, more || signs != p->signs, ns);
    p->lost = lost;
    p->signs = signs;
    atf_period *open = before == ATF_LANE_PRESSURE || before == ATF_LANE_DROPPING ? atf_period_at(all, p->period) : (atf_period *)0;
    if (now != before) {
        if (open) open->end_ns = ns;
        open = (atf_period *)0;
        if (now == ATF_LANE_PRESSURE || now == ATF_LANE_DROPPING) {
            p->period = ++all->n;
            open = &all->list[(p->period - 1) % ATF_PERIODS];
            *open = (atf_period){number, (uint16_t)lane, (uint16_t)now, ns, 0, 0};
        }
    }
    if (open) open->lost += more;
}

/* Its thread is over: what was lost last is told, and nothing lasts. */
static inline void atf_pressure_end(atf_pressure *p, atf_periods *all, uint32_t number, uint32_t lane, uint64_t lost, uint64_t signs, uint64_t ns)
{
    if (lost > p->lost || signs != p->signs) atf_pressure_look(p, all, number, lane, 1, 1, lost, signs, ns);
    if (p->state == ATF_LANE_PRESSURE || p->state == ATF_LANE_DROPPING) {
        atf_period *open = atf_period_at(all, p->period);
        if (open) open->end_ns = ns;
    }
}

/* The next part of the recording begins: a period that lasts is split, and states are counted anew. The list was emptied before. */
static inline void atf_pressure_part(atf_pressure *p, atf_periods *all, uint32_t number, uint32_t lane, uint64_t ns)
{
    for (uint32_t k = 0; k < 4; k++) p->entered[k] = k == p->state && k != ATF_LANE_NORMAL;
    p->period = 0;
    if (p->state != ATF_LANE_PRESSURE && p->state != ATF_LANE_DROPPING) return;
    p->period = ++all->n;
    all->list[(p->period - 1) % ATF_PERIODS] = (atf_period){number, (uint16_t)lane, (uint16_t)p->state, ns, 0, 0};
}
#endif
