"""Slow and plain versions of recovery, merging and span matching: what the compiled ones must agree with.

Written from docs/format.md, sharing no code and no data structure with the compiled modules.
"""

import struct
from dataclasses import dataclass, field

NONE = 0xFFFFFFFF
CALL, RETURN, EXCEPTION, INSTANT, YIELD, RESUME, SIGNAL, GAP = range(1, 9)


def events_of(data):
    """[(timestamp_ns, function_id, tid, kind, depth, detail_seq)] of the bytes of events."""
    return list(struct.iter_unpack("<QQIIII", data))


def recover_index(data):
    """The events that the bytes of an index.atf hold, as a list of 32-byte strings."""
    declared, footer_at = struct.unpack_from("<I", data, 28)[0], struct.unpack_from("<Q", data, 40)[0]
    size = len(data)

    def footer(at):
        magic, _, count, _, _, written = struct.unpack("<4sIQQQQ24x", data[at : at + 64])
        return magic, count, written

    def records(n):
        return [data[64 + 32 * i : 96 + 32 * i] for i in range(n)]

    if footer_at >= 64 and footer_at % 32 == 0 and footer_at + 64 <= size:
        magic, count, written = footer(footer_at)
        if magic == b"2ITA" and count == (footer_at - 64) // 32 and (count > 0 or (size == 128 and written == 0)):
            return records(count)
    count = (size - 64) // 32
    if declared and footer_at == 64 + 32 * declared and declared <= count:
        count = declared
    else:
        for n in range(max(0, count - 4096), count):
            record, after = data[64 + 32 * n :][:32], data[96 + 32 * n :][:32]
            whole = len(after) == 32
            if (record[:4] == b"2ITA") + (record[8:16] == struct.pack("<Q", n)) + (whole and after[:8] == struct.pack("<Q", 32 * n)) >= 2:
                count = n
                break
    kept = records(count)
    while kept:
        stamp, _, _, kind, _, _ = struct.unpack("<QQIIII", kept[-1])
        if 1 <= kind <= 15 and stamp >= struct.unpack("<Q", kept[0][:8])[0]:
            break
        kept.pop()
    return kept


def merge(threads, start_ns=0, end_ns=2**64 - 1):
    """[(thread, position)] of lists of timestamps that do not decrease."""
    found = [(stamp, t, i) for t, stamps in enumerate(threads) for i, stamp in enumerate(stamps) if start_ns <= stamp <= end_ns]
    return [(t, i) for _, t, i in sorted(found)]


@dataclass
class Span:
    function: int
    start: int
    call_seq: int
    parent: "Span | None"
    call_depth: int
    gaps: int
    end: int = 0
    end_seq: int = NONE
    status: str = ""
    stretches: list = field(default_factory=list)  # (start, end) while it ran
    above: int = 0  # time of what ran directly on top of it
    runner: "Span | None" = None
    yielded: "tuple[int, int] | None" = None  # (time, seq)
    children: int = 0

    @property
    def active(self):
        return sum(max(0, end - start) for start, end in self.stretches)

    @property
    def depth(self):
        return 1 if self.parent is None else self.parent.depth + 1


class Matcher:
    """One thread's events in, spans in the order of their calls out."""

    def __init__(self, trace_end):
        self.trace_end = trace_end
        self.spans, self.stack, self.suspended = [], [], []
        self.gaps, self.gap_at = 0, (0, NONE)
        self.counts = dict.fromkeys(("returns_without_call", "yields_without_call", "resumes_without_call", "gaps", "events_lost"), 0)

    def run(self, events):
        for seq, (time, function, _, kind, depth, _) in enumerate(events):
            if kind == CALL:
                self.resync(depth)
                self.open(time, function, depth, seq)
            elif kind in (RETURN, EXCEPTION):
                if self.reach(time, function, depth, seq):
                    self.close(time, seq, "ok" if kind == RETURN else "exception")
                else:
                    self.counts["returns_without_call"] += 1
            elif kind == YIELD:
                if self.reach(time, function, depth, seq):
                    span = self.pop(time)
                    span.yielded, span.call_depth = (time, seq), depth
                    self.suspended.append(span)
                else:
                    self.counts["yields_without_call"] += 1
            elif kind == RESUME:
                self.resync(depth)
                span = self.choose(function, depth)
                if span:
                    self.suspended.remove(span)
                    span.call_depth = depth
                    self.push(span, time)
                else:
                    self.counts["resumes_without_call"] += 1
                    self.open(time, function, depth, seq)
            elif kind == GAP:
                self.gaps += 1
                self.gap_at = (time, seq)
                self.counts["gaps"] += 1
                self.counts["events_lost"] += function
        while self.stack:
            self.close(self.trace_end, NONE, "open")
        for span in self.suspended:
            self.end(span, *span.yielded, "open")
        return self.spans

    def open(self, time, function, depth, seq):
        parent = self.stack[-1] if self.stack else None
        span = Span(function, time, seq, parent, depth, self.gaps)
        if parent:
            parent.children += 1
        self.spans.append(span)
        self.push(span, time)

    def push(self, span, time):
        span.runner = self.stack[-1] if self.stack else None
        span.stretches.append((time, None))
        self.stack.append(span)

    def pop(self, time):
        span = self.stack.pop()
        start, _ = span.stretches.pop()
        span.stretches.append((start, time))
        if self.stack:
            self.stack[-1].above += max(0, time - start)
        return span

    def end(self, span, time, seq, status):
        span.end, span.end_seq = max(time, span.start), seq
        span.status = "lost" if span.gaps != self.gaps else status

    def close(self, time, seq, status):
        self.end(self.pop(time), time, seq, status)

    def resync(self, depth):
        while depth and self.stack and self.stack[-1].gaps != self.gaps and self.stack[-1].call_depth >= depth:
            self.close(*self.gap_at, "lost")

    def reach(self, time, function, depth, seq):
        at = max((i for i, span in enumerate(self.stack) if span.function == function), default=None)
        if at is None or (self.stack[at].gaps != self.gaps and 0 < self.stack[at].call_depth < depth):
            return False
        while len(self.stack) > at + 1:
            self.close(time, seq, "unwound")
        return True

    def choose(self, function, depth):
        mine = [span for span in self.suspended if span.function == function]  # oldest first
        if not mine:
            return None
        newest = mine[-1]
        if self.stack and newest.runner is self.stack[-1] and newest.call_depth == depth:
            return newest
        return next((span for span in mine[:64] if span.call_depth == depth), newest)


def spans(threads, trace_end=None):
    """([(thread, Span)], counts) of lists of event tuples."""
    if trace_end is None:
        trace_end = max((event[0] for events in threads for event in events), default=0)
    rows, total = [], dict(Matcher(0).counts)
    for thread, events in enumerate(threads):
        matcher = Matcher(trace_end)
        rows += [(thread, span) for span in matcher.run(events)]
        for name, n in matcher.counts.items():
            total[name] += n
    return rows, total


def totals(rows, group):
    """{group: [count, total, self, min, max, exceptions, active]}; group(thread, span) names a span's group."""
    result = {}
    for thread, span in rows:
        mine = group(thread, span)
        row = result.setdefault(mine, [0, 0, 0, span.active, 0, 0, 0])
        above, inside = span.parent, False
        while above is not None and not inside:
            inside, above = group(thread, above) == mine, above.parent
        row[0] += 1
        row[1] += 0 if inside else span.active
        row[2] += max(0, span.active - span.above)
        row[3], row[4] = min(row[3], span.active), max(row[4], span.active)
        row[5] += span.status == "exception"
        row[6] += span.active
    return result
