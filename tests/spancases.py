"""Random sessions on disk, and what their spans are in slow Python: what answers about spans must agree with.

The truth comes from the bytes of the files by tests/oracle.py; names from what the manifests were written with.
"""

import random
from dataclasses import dataclass
from fnmatch import fnmatchcase

import oracle
import tracefiles as tf
from oracle import CALL, EXCEPTION, GAP, INSTANT, RESUME, RETURN, YIELD

MODULES = {1: "app", 2: "app.lib", 3: "other"}
FILES = {1: "/src/app.py", 2: "/src/lib.py", 3: "/src/app.py"}  # two modules in one file
NAMES = ("run", "load", "load_all", "Model.fit", "step", "close")


@dataclass
class Row:
    """One span. thread, row: its ref. above: the Row of its caller, or None."""

    thread: int
    row: int
    tid: int
    pid: int
    function: tuple  # (pid, id)
    name: str
    module: str
    file: str
    line: int
    span: oracle.Span
    above: "Row | None" = None

    @property
    def start(self):
        return self.span.start

    @property
    def duration(self):
        return self.span.end - self.span.start

    @property
    def self_ns(self):
        return max(0, self.span.active - self.span.above)

    @property
    def depth(self):
        return self.span.depth - 1

    @property
    def id(self):
        return f"{self.tid}:{self.span.start}:{self.span.call_seq}"

    def value(self, order):
        return {"start": self.start, "duration": self.duration, "self": self.self_ns}[order]

    def key(self, order):
        ref = (self.start, self.thread, self.row)
        return ref if order == "start" else (self.value(order), *ref)

    def group(self, kind):
        return {
            "function": (self.name, self.module, self.file, self.line),
            "module": self.module,
            "file": self.file,
            "thread": self.thread,
        }[kind]


def random_events(rng, tid, functions, start, count):
    """Mostly calls and returns that fit, with recursion, generators, exceptions, equal times, and some records that lie."""
    now, stack, waiting, events = start, [], [], []
    while len(events) < count:
        now += rng.choice((0, 0, 1, 2, 5, 40))
        depth, roll = len(stack), rng.random()
        if roll < 0.42 and depth < 7:
            stack.append(rng.choice((*functions, *stack[-1:])))
            events.append((now, stack[-1], CALL, depth + 1))
        elif roll < 0.78 and stack:
            events.append((now, stack.pop(), rng.choice((RETURN, RETURN, RETURN, EXCEPTION)), depth))
        elif roll < 0.83 and stack:
            waiting.append(stack.pop())
            events.append((now, waiting[-1], YIELD, depth))
        elif roll < 0.88 and waiting:
            stack.append(waiting.pop(rng.randrange(len(waiting))))
            events.append((now, stack[-1], RESUME, depth + 1))
        elif roll < 0.90 and depth > 1:
            stack = stack[: rng.randrange(depth)]  # frames that left no word
        elif 0.90 < roll < 0.905:
            events.append((now, rng.randrange(1, 9), GAP, 1))
        elif roll < 0.94:
            events.append((now, rng.choice(functions), rng.choice((RETURN, EXCEPTION, YIELD, RESUME, INSTANT)), rng.randrange(5)))
    return [tf.event(at, function, kind, depth, tid=tid) for at, function, kind, depth in events]


class Case:
    """A session below `root`, and its spans. rows: all Rows, threads in the order of their positions, then by row."""

    def __init__(self, root, seed, events_a_thread=120):
        rng = self.rng = random.Random(seed)
        self.name = f"session_20260101_{seed:06d}"
        self.start = rng.choice((1000, (1 << 60) + 1))  # beyond what a float can hold
        place = root / self.name
        self.tids, self.pids, self.rows, self.counts = [], [], [], {}
        for pid in sorted(rng.sample(range(50, 60), rng.randint(1, 3))):
            symbols = {
                module << 32 | symbol: (rng.choice(NAMES), rng.choice((FILES[module], FILES[module], "/src/more.py")) if module else "", symbol)
                for module in (0, 1, 2, 3)
                for symbol in rng.sample(range(1, 5), 2)
            }
            functions = [*symbols, 1 << 32 | 99]  # the last one has no name
            threads = {}
            for number in range(rng.randint(1, 3)):
                tid = rng.choice((pid, pid + 100, pid + 101, 7))  # may be used twice
                threads[number] = (tid, random_events(rng, tid, functions, self.start + rng.randrange(50), events_a_thread), ())
            said = {number: {"tid": tid, "name": "worker"} for number, (tid, _, _) in threads.items()}
            finalized = rng.random() < 0.7
            where = tf.write_process(place, pid, threads, tf.manifest(said, symbols, MODULES, pid=pid), finalized)
            if not finalized:  # and cut off anywhere
                index = where / "thread_0" / "index.atf"
                index.write_bytes(index.read_bytes()[: -rng.randrange(1, 200)])
            self._match(where, pid, threads, symbols)
        self.path = place

    def _match(self, where, pid, threads, symbols):
        found = [oracle.recover_index((where / f"thread_{n}" / "index.atf").read_bytes()) for n in threads]
        base = len(self.tids)
        spans, counts = oracle.spans([oracle.events_of(b"".join(events)) for events in found])
        self.counts = {name: self.counts.get(name, 0) + n for name, n in counts.items()}
        self.tids += [tid for tid, _, _ in threads.values()]
        self.pids += [pid] * len(threads)
        made, next_row = {}, {}
        for at, span in spans:
            module, thread = span.function >> 32, base + at
            name, file, line = symbols.get(span.function, (f"app:0x{span.function & 0xFFFFFFFF:x}", FILES.get(module, ""), 0))
            row = next_row[thread] = next_row.get(thread, -1) + 1
            above = made[id(span.parent)] if span.parent else None
            made[id(span)] = Row(
                thread, row, self.tids[thread], pid, (pid, span.function), name, MODULES.get(module, ""), file, line, span, above
            )
            self.rows.append(made[id(span)])

    def random_filters(self):
        """Params of `filters` as spans.list takes them, of which a few pass some and most pass nearly all."""
        rng, rows = self.rng, self.rows
        starts = [row.start for row in rows]
        lengths = sorted(row.duration for row in rows)
        depths = [row.depth for row in rows]
        choices = {
            "timeStartNs": lambda: rng.choice(starts),
            "timeEndNs": lambda: rng.choice(rows).span.end,
            "threadIds": lambda: rng.sample([*self.tids, 99999], rng.randint(0, 2)),
            "functionNames": lambda: rng.sample([*NAMES, "app.run", "app.lib.load", "nobody"], rng.randint(0, 4)),
            "minDurationNs": lambda: rng.choice(lengths[: len(lengths) // 2 + 1]),
            "maxDurationNs": lambda: rng.choice(lengths[len(lengths) // 2 :]),
            "minDepth": lambda: rng.choice(depths),
            "maxDepth": lambda: rng.choice(depths),
            "status": lambda: rng.sample(["ok", "exception", "unwound", "open", "lost"], rng.randint(0, 4)),
            "pattern": lambda: rng.choice(("l*", "app.*", "*.fit", "step", "app:0x*", "x*")),
            "moduleNames": lambda: rng.sample([*MODULES.values(), "", "gone"], rng.randint(0, 3)),
        }
        return {name: choices[name]() for name in rng.sample(sorted(choices), rng.choice((0, 1, 1, 2, 2, 3)))}

    def passing(self, filters):
        """The rows that pass what `random_filters` gave."""
        return [row for row in self.rows if passes(row, filters)]


def passes(row, filters):
    f = filters.get
    return (
        ("timeStartNs" not in filters or row.start >= f("timeStartNs"))
        and ("timeEndNs" not in filters or row.span.end <= f("timeEndNs"))
        and ("threadIds" not in filters or row.tid in f("threadIds"))
        and ("functionNames" not in filters or row.name in f("functionNames") or qualified(row) in f("functionNames"))
        and ("pattern" not in filters or fnmatchcase(row.name, f("pattern")) or fnmatchcase(qualified(row), f("pattern")))
        and ("moduleNames" not in filters or row.module in f("moduleNames"))
        and f("minDurationNs", 0) <= row.duration <= f("maxDurationNs", 1 << 64)
        and f("minDepth", 0) <= row.depth <= f("maxDepth", 1 << 64)
        and ("status" not in filters or row.span.status in f("status"))
    )


def qualified(row):
    return f"{row.module}.{row.name}" if row.module else row.name


def sums(rows, kind):
    """{group: [count, total, active, self, min, max, exceptions, [active times, rising]]} of the rows that pass."""
    inside, result = {id(row) for row in rows}, {}
    for row in rows:
        mine = result.setdefault(row.group(kind), [0, 0, 0, 0, 1 << 64, 0, 0, []])
        above = row.above
        while above is not None and not (id(above) in inside and above.group(kind) == row.group(kind)):
            above = above.above
        active = row.span.active
        mine[0] += 1
        mine[1] += active if above is None else 0
        mine[2] += active
        mine[3] += row.self_ns
        mine[4], mine[5] = min(mine[4], active), max(mine[5], active)
        mine[6] += row.span.status == "exception"
        mine[7].append(active)
    for mine in result.values():
        mine[7].sort()
    return result


def nearest_rank(rising, percent):
    """The smallest value that at least `percent` of a hundred of the values do not exceed."""
    return next(value for n, value in enumerate(rising, 1) if n * 100 >= percent * len(rising))
