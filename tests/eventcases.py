"""Random sessions on disk, and which events a question asks for in slow Python: plain lists, sorted."""

import random
from dataclasses import dataclass
from fnmatch import fnmatchcase

import tracefiles as tf
from tracefiles import CALL, GAP

MODULES = {1: "app", 2: "lib"}
NAMES = ("run", "load", "load_all", "f[int]", "Model.fit")
TYPES = {
    1: "FunctionCall", 2: "FunctionReturn", 3: "Exception", 4: "Instant", 5: "Yield", 6: "Resume",
    7: "SignalDelivery", 8: "Gap", 9: "Unknown", 15: "Unknown",
}


@dataclass
class Row:
    """One event as it was written. place: (pid, n of thread_<n>)."""

    time: int
    place: tuple
    seq: int
    tid: int
    id: int
    kind: int
    depth: int
    name: str
    module: str
    handle: str = ""

    @property
    def qualified(self):
        return f"{self.module}.{self.name}" if self.module else self.name


def symbols(rng, pid):
    """{id: (name, file, line)} of a process; some ids that occur have no name."""
    ids = [module << 32 | n for module in (0, 1, 2, 3) for n in range(3)]
    return {id: (rng.choice(NAMES), f"/src/{pid}.py", n) for n, id in enumerate(ids) if rng.random() < 0.8}, ids


def write(root, seed, name="session_20260101_120000", most=60):
    """A session below root; [Row] of all its events."""
    rng = random.Random(seed)
    rows = []
    for pid in sorted(rng.sample(range(50, 60), rng.choice((1, 1, 2, 3)))):
        known, ids = symbols(rng, pid)
        threads, said = {}, {}
        for number in range(rng.choice((0, 1, 2, 3, 6))):
            tid = rng.choice((100, 101, 200 + number, pid))
            now, events = rng.choice((0, 5, 1 << 62)) if rng.random() < 0.1 else 1000 + rng.randrange(20), []
            for seq in range(rng.choice((0, 1, 3, most))):
                now += rng.choice((0, 0, 0, 1, 1, 2, 30))
                id, kind, depth = rng.choice(ids), rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 15)), rng.randrange(4)
                id = rng.randrange(20) if kind == GAP else id
                events.append(tf.event(now, id, kind, depth, tid=tid))
                module = MODULES.get(id >> 32, "")
                named = known[id][0] if id in known else f"{module or id >> 32}:0x{id & 0xFFFFFFFF:x}"
                rows.append(Row(now, (pid, number), seq, tid, id, kind, depth, named, module))
            threads[number] = (tid, events, ())
            said[number] = {"tid": tid, "name": f"t{number}"}
        finalized = rng.random() < 0.7
        content = tf.manifest(said, known, MODULES, pid=pid, status="complete", lost={})
        tf.write_process(root / name, pid, threads, content, finalized)
    by_tid = {}
    for row in sorted(rows, key=lambda r: r.place):
        by_tid.setdefault(row.tid, row.place)
    return rows


def chosen(rows, filters, order_by="timestamp", ascending=True):
    """The rows that pass, in their order."""
    types = filters.get("eventTypes")
    names = filters.get("functionNames")
    pattern = filters.get("pattern")
    modules = filters.get("moduleNames")
    by_name = names is not None or pattern is not None or modules is not None

    def passes(r):
        return (
            filters.get("timeStartNs", 0) <= r.time <= filters.get("timeEndNs", 2**64)
            and r.tid in filters.get("threadIds", [r.tid])
            and (types is None or TYPES[r.kind].lower() in [t.lower().replace("_", "") for t in types])
            and not (by_name and r.kind == GAP)
            and (names is None or r.name in names or r.qualified in names)
            and (pattern is None or any(fnmatchcase(n, pattern) or n == pattern for n in (r.name, r.qualified)))
            and (modules is None or r.module in modules)
        )

    found = sorted(filter(passes, rows), key=lambda r: (r.time, r.place, r.seq))
    if order_by == "threadId":
        found.sort(key=lambda r: r.tid)
    return found if ascending else found[::-1]


def random_filters(rng, rows):
    """Filters of which each is there now and then; names and times mostly from the rows."""
    filters = {}
    times = [r.time for r in rows] or [0]
    if rng.random() < 0.3:
        filters["timeStartNs"] = max(0, rng.choice(times) + rng.randrange(-2, 3))
    if rng.random() < 0.3:
        filters["timeEndNs"] = max(0, rng.choice(times) + rng.randrange(-2, 3))
    if rng.random() < 0.25:
        filters["threadIds"] = rng.sample((100, 101, 200, 201, 55, 7), rng.randrange(3))
    if rng.random() < 0.3:
        filters["eventTypes"] = rng.sample(("functionCall", "FunctionReturn", "exception", "gap", "UNKNOWN", "signal_delivery", "instant"), rng.randrange(4))
    if rng.random() < 0.3:
        filters["functionNames"] = rng.sample((*NAMES, "app.load", "nobody", "3:0x1", "lib.lib:0x2"), rng.randrange(3))
    if rng.random() < 0.2:
        filters["pattern"] = rng.choice(("load*", "*", "app.*", "f[int]", "3:*", "nobody*"))
    if rng.random() < 0.2:
        filters["moduleNames"] = rng.sample(("app", "lib", "", "none"), rng.randrange(1, 3))
    return filters


def shown(row, start, named=False):
    """A row as events.get gives it by default, or with its name."""
    made = {"timestampNs": row.time, "timestampRelativeNs": row.time - start, "threadId": row.tid, "eventType": TYPES[row.kind]}
    if row.kind == GAP:
        reasons = {1: "exhausted", 2: "killed", 3: "disk full"}
        made |= {"lost": row.id, "lossReason": reasons.get(row.depth, f"reason {row.depth}")}
    elif named:
        made |= {"functionName": row.name, "moduleName": row.module, "functionId": f"0x{row.id:016x}"}
    if named:
        made |= {"indexSeq": row.seq, "depth": 0 if row.kind == GAP else max(0, row.depth - 1), "processId": row.place[0]}
        if row.kind == CALL:
            made["spanId"] = f"{row.tid}:{row.time}:{row.seq}"
    return made
