"""Sessions of random events, and their spans as the oracle sees them, for the tests of questions about whole traces."""

import random
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import oracle
import tracefiles as tf
from tracefiles import CALL, EXCEPTION, GAP, INSTANT, RESUME, RETURN, YIELD

NAME = "session_20260101_000000"
SYMBOLS = {1 << 32 | n: (name, "/src/app.py", n + 1) for n, name in enumerate(("main", "run", "step", "<lambda>", "a;b c"))}
SYMBOLS[7] = ("load", "", 0)  # a span of the user's


@dataclass
class Row:
    """One span of the oracle's: thread is its position in the trace."""

    thread: int
    tid: int
    span: oracle.Span

    @property
    def id(self):
        return f"{self.tid}:{self.span.start}:{self.span.call_seq}"

    @property
    def self_ns(self):
        return max(0, self.span.active - self.span.above)

    def names(self):
        found, span = [], self.span
        while span is not None:
            found.append(name_of(span.function))
            span = span.parent
        return tuple(reversed(found))


def name_of(function_id):
    name = SYMBOLS[function_id][0]
    return name if function_id == 7 else f"app.{name}"


def events_of_thread(choose, tid, count, generators=True, start=1000, raising=False):
    """Mostly calls and returns that fit, with some of everything else. Tuples as the oracle takes them."""
    now, stack, suspended, rows = start, [], [], []
    ids = list(SYMBOLS)
    for _ in range(count):
        now += choose.choice((0, 1, 1, 2, 5, 40))
        rare = (EXCEPTION,) * 5 if raising else (EXCEPTION, INSTANT, GAP)
        kind = choose.choice((CALL,) * 6 + (RETURN,) * (2 if raising else 6) + rare + (YIELD, YIELD, RESUME, RESUME) * generators)
        function = choose.choice(ids)
        if kind == CALL and len(stack) < 12:
            stack.append(function)
        elif kind in (RETURN, EXCEPTION) and stack:
            function = stack.pop() if choose.random() < 0.95 else function
        elif kind == YIELD and stack:
            function = stack.pop()
            suspended.append(function)
        elif kind == RESUME and suspended:
            function = suspended.pop(choose.randrange(len(suspended)))
            stack.append(function)
        elif kind == GAP:
            function = choose.randint(1, 9)
        else:
            kind, function = INSTANT, 7
        depth = 1 if kind == GAP else max(1, len(stack) + (kind in (RETURN, EXCEPTION, YIELD)))
        rows.append((now, function, tid, kind, depth, tf.NONE))
    return rows


def write(root, seed, count=120, processes=2, threads=2, generators=True, name=NAME, raising=False):
    """Writes a session below `root`; returns the oracle's rows in the order of the threads of the trace."""
    choose = random.Random(seed)
    found, position = [], 0
    for pid in range(50, 50 + processes):
        of_process = []
        for number in range(threads):
            length = choose.randint(0, count)
            of_process.append(events_of_thread(choose, pid * 10 + number, length, generators, 1000 + 100 * number, raising))
        said = {n: {"tid": pid * 10 + n, "name": f"thread {n}"} for n in range(threads)}
        content = tf.manifest(said, SYMBOLS, {1: "app"}, pid=pid, argv=["app.py"], exit=0, python="3.11.7")
        files = {
            n: (pid * 10 + n, [tf.event(t, f, k, d, link, tid) for t, f, tid, k, d, link in rows], ()) for n, rows in enumerate(of_process)
        }
        tf.write_process(Path(root, name), pid, files, content)
        spans, _ = oracle.spans(of_process, max((rows[-1][0] for rows in of_process if rows), default=0))
        found += [Row(position + thread, pid * 10 + thread, span) for thread, span in spans]
        position += threads
    return found
