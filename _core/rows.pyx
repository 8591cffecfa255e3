"""What the drain counts in C, as Python values: rows of threads, states of lanes, periods of pressure."""

from libc.stdint cimport uint32_t, uint64_t

from atf._core.drain cimport atf_output
from atf._core.pressure cimport ATF_NO_THREAD, ATF_PERIODS, atf_period, atf_periods, atf_pressure

LANES, STATES = ("index", "detail", "global"), ("normal", "pressure", "dropping", "recovery")
REASONS = {1: "exhausted", 2: "killed", 3: "disk full", 4: "rate limited"}


cdef list threads_of(const atf_output *outputs, uint32_t n):
    return [_thread(&outputs[i]) for i in range(n)]


cdef dict overload_of(const atf_output *outputs, uint32_t n, const atf_pressure *shared, const atf_periods *of):
    cdef uint32_t i, k
    cdef uint64_t at, first = of.n - ATF_PERIODS if of.n > ATF_PERIODS else 0
    cdef const atf_period *p
    lanes, periods = [], []
    for i in range(n):
        for k in range(2):
            _lane(lanes, outputs[i].number, LANES[k], &outputs[i].pressure[k])
    _lane(lanes, None, "global", shared)
    for at in range(first, of.n):
        p = &of.list[at % ATF_PERIODS]
        periods.append({"thread": None if p.number == ATF_NO_THREAD else p.number, "lane": LANES[p.lane], "state": STATES[p.state],
                        "startNs": p.start_ns, "endNs": p.end_ns or None, "dropped": p.lost})
    return {"lanes": lanes, "periods": periods, "unlisted": first}


cdef _lane(list lanes, thread, lane, const atf_pressure *p):
    entered = [p.entered[i] for i in range(4)]
    if any(entered):
        lanes.append({"thread": thread, "lane": lane, "state": STATES[p.state], "entered": dict(zip(STATES, entered))})


# Numbers are of the part that the files belong to; GAPs, and calls that a part tells again, are no records of the thread.
cdef dict _thread(const atf_output *o):
    cdef uint32_t k
    lost = {REASONS[k]: o.lost[k] for k in range(1, 5) if o.lost[k]}
    if o.pending_lost:
        lost["disk full"] = lost.get("disk full", 0) + o.pending_lost
    return {
        "number": o.number, "tid": o.tid, "name": (<bytes>o.name).decode("utf-8", "replace"), "entered": o.w.carried if o.from_ else o.entered,
        "events": o.w.events, "details": o.w.details, "detail_bytes": o.w.detail_bytes, "lost": lost,
        "details_lost": o.details_lost, "time_start_ns": o.w.time_start_ns, "time_end_ns": o.w.time_end_ns,
        "finished": bool(o.finished), "unkept": o.m.filtered, "details_unkept": o.details_unkept,
        "produced": o.expected - o.from_, "written": o.w.events - o.m.gaps - o.w.carried, "held": o.m.held,
        "details_seen": o.m.details_seen, "details_held": o.m.details_held, "details_refused": o.m.details_refused,
        "bytes": o.w.events * 32 + o.w.detail_bytes, "swaps": o.m.swaps, "detail_swaps": o.m.detail_swaps, "taken_back": o.m.taken_back,
        "most_full": o.m.most_full, "rate": o.m.rate, "blocked_ns": o.m.blocked_ns,
        "earlier": o.from_, "in_earlier": bool(o.in_earlier),
    }
