"""Recordings with everything in them that makes questions hard, the same for the same seed, and what was written, for the oracle.

Recursion, calls that never return, returns without a call, exceptions that unwind several frames, generators that are resumed
in and out of turn, or never again, equal timestamps, gaps, instants, signals, names that two processes number differently,
functions without a name, a file that was cut in the middle of a record.
"""

import random
from dataclasses import dataclass

import tracefiles as tf
from tracefiles import CALL, EXCEPTION, GAP, INSTANT, NONE, RESUME, RETURN, SIGNAL, YIELD

MODULES = {1: "app", 2: "lib", 3: "lib.deep"}
SYMBOLS = [  # (module, name, file, line); the second process has them in another order
    (1, "main", "/src/app.py", 3),
    (1, "Model.solve", "/src/app.py", 9),
    (2, "step", "/src/lib.py", 1),
    (2, "fact", "/src/lib.py", 20),
    (3, "numbers", "/src/lib/deep.py", 5),
    (3, "step", "/src/lib/deep.py", 30),
]
UNNAMED = 3 << 32 | 999
START_NS = 5_000_000


@dataclass(frozen=True)
class Written:
    """One thread: what a reader must find. events: tuples as `oracle.events_of` gives them."""

    pid: int
    number: int
    tid: int
    name: str
    events: list
    names: dict  # {function id: (module, name, file, line)} of its process

    def named(self, function_id):
        return self.names.get(function_id) or ("lib.deep", "lib.deep:0x3e7", "/src/lib.deep.py", 0)


def thread_events(rng, ids, count, generators=True):
    """[(timestamp, function, kind, depth)], mostly as a program behaves, and now and then not."""
    rows, stack, suspended, now = [], [], [], START_NS + rng.randrange(50)

    def add(kind, function, depth):
        rows.append((now, function, kind, depth))

    while len(rows) < count:
        now += rng.choice((0, 0, 1, 3, 10, 10, 200))
        what = rng.random()
        if what < 0.42 and len(stack) < 9:
            stack.append(stack[-1] if stack and rng.random() < 0.3 else rng.choice(ids))  # recursion, direct too
            add(CALL, stack[-1], len(stack))
        elif what < 0.72 and stack:
            add(RETURN, stack.pop(), len(stack) + 1)
        elif what < 0.77 and stack:
            at = rng.randrange(len(stack))
            add(EXCEPTION, stack[at], at + 1)  # the frames above have no event of their own
            del stack[at:]
        elif what < 0.83 and stack and generators:
            suspended.append(stack[-1])
            add(YIELD, stack.pop(), len(stack) + 1)
        elif what < 0.89 and suspended:
            stack.append(suspended.pop(rng.randrange(len(suspended))))
            add(RESUME, stack[-1], len(stack))
        elif what < 0.92:
            add(INSTANT, rng.choice(ids), len(stack))
        elif what < 0.935:
            add(SIGNAL, rng.choice(ids), len(stack))
        elif what < 0.95:
            lost = rng.randrange(1, 40)
            add(GAP, lost, rng.choice((1, 4)))
            for _ in range(rng.randrange(3)):  # what happened meanwhile was not seen
                if stack and rng.random() < 0.5:
                    stack.pop()
                else:
                    stack.append(rng.choice(ids))
        elif what < 0.965:
            add(RETURN, rng.choice(ids), rng.randrange(1, 5))  # nobody called it, or not here
        elif what < 0.975 and stack:
            stack.pop()  # its return is missing
    return rows


def write(root, seed, count=220):
    """(session directory, [Written] in the order of the threads of the trace)."""
    rng = random.Random(seed)
    session, written = root / "session_20260101_000000", []
    for pid in (40, 41):
        symbols = SYMBOLS if pid == 40 else SYMBOLS[::-1]
        names = {module << 32 | i: (module, name, file, line) for i, (module, name, file, line) in enumerate(symbols)}
        ids = [*names, UNNAMED]
        threads, said = {}, {}
        for number in range(3):
            tid = pid * 10 + number
            rows = thread_events(rng, ids, count, number < 2)
            events = [tf.event(at, function, kind, depth, tid=tid) for at, function, kind, depth in rows]
            threads[number] = (tid, events, ())
            said[number] = {"tid": tid, "name": f"worker-{number}", "lost": sum(function for _, function, kind, _ in rows if kind == GAP)}
            plain = {id: (MODULES[m], name, file, line) for id, (m, name, file, line) in names.items()}
            tuples = [(at, function, tid, kind, depth, NONE) for at, function, kind, depth in rows]
            written.append(Written(pid, number, tid, f"worker-{number}", tuples, plain))
        content = tf.manifest(said, {id: of[1:] for id, of in names.items()}, MODULES, pid=pid)
        place = tf.write_process(session, pid, threads, content)
        index = place / "thread_1" / "index.atf"  # a writer that was killed: no footer, and half a record at the end
        index.write_bytes(tf.index_bytes(threads[1][1], threads[1][0], finalized=False) + b"\x07" * 13)
    return session, written


def times(written):
    """{pid: when its last event was}: where spans end that are open."""
    ends = {}
    for one in written:
        ends[one.pid] = max(ends.get(one.pid, 0), one.events[-1][0])
    return ends
