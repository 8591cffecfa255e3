"""All spans of a trace, for questions: filtered, ordered, paged, grouped.

A span is named by a ref: (thread, row), its thread's position in `trace.threads` and its place among that thread's spans,
which are in the order of their calls. This is the plain implementation, over the columns of `Trace.table()`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from atf._core.spans import STATUS, children_of
from atf.query.spangroups import Group, Groups, Totals, group_spans, ranks_of, sum_groups
from atf.query.spantypes import ANY, Check, Filter, Order, Ref, Refs, Selection, SpanRows, make_refs
from atf.query.spantypes import KEY_LENGTH as KEY_LENGTH
from atf.query.spantypes import key_at as key_at
from atf.trace_filters import glob

if TYPE_CHECKING:
    from atf.query.traces import View


class SpanSet:
    """threads: those of the trace. functions: [Function] by function key; ids of two processes never share a key.

    counts: {returns_without_call, yields_without_call, resumes_without_call, gaps, events_lost}. len(): all spans.
    Every method may be called from several threads at once.
    """

    def __init__(self, view: View) -> None:
        table = view.trace.table()
        self._columns = table.columns  # no reference to the view: what it lets go of is free at once
        self._lock = threading.Lock()
        self._children: tuple[Any, Any] | None = None
        self._groups: dict[Group, Groups] = {}
        self._first: list[int] = table.columns.thread_rows.tolist()
        self.threads, self.functions = table.threads, table.functions
        self.counts: dict[str, int] = dict(table.columns.counts)

    @staticmethod
    def of(view: View) -> SpanSet:
        """The spans of a view; made at the first question."""
        made: SpanSet = view.once("spanset", SpanSet)
        return made

    def __len__(self) -> int:
        return len(self._columns)

    def thread_length(self, thread: int) -> int:
        """How many spans a thread has: its rows are 0 up to this."""
        return self._first[thread + 1] - self._first[thread]

    # Names

    def function_keys(
        self, names: Iterable[str] | None = None, pattern: str | None = None, modules: Iterable[str] | None = None
    ) -> frozenset[int] | None:
        """The keys of the functions that are all of: named exactly so, or `module.name`; of a name or `module.name` that fits the
        pattern (glob); of one of the modules (exact). None: no condition was given."""
        conditions: list[set[int]] = []
        if names is not None:
            conditions.append({key for name in names for key in self._named.get(name, ())})
        if modules is not None:
            inside = set(modules)
            conditions.append({key for key, f in enumerate(self.functions) if f.module in inside})
        if pattern is not None:
            fits = glob("pattern", pattern)
            conditions.append({key for name, keys in self._named.items() if fits(name) for key in keys})
        return frozenset(set.intersection(*conditions)) if conditions else None

    @cached_property
    def _named(self) -> dict[str, list[int]]:
        """The keys of each name, and of each `module.name`."""
        found: dict[str, list[int]] = {}
        for key, f in enumerate(self.functions):
            for name in {f.name, f.qualified}:
                found.setdefault(name, []).append(key)
        return found

    def thread_positions(self, tids: Iterable[int] | None) -> frozenset[int] | None:
        """The positions of the threads with these ids of the operating system; None: no condition."""
        if tids is None:
            return None
        wanted = set(tids)
        return frozenset(t.position for t in self.threads if t.tid in wanted)

    def span_ids(self, rows: SpanRows) -> list[str]:
        """`<tid>:<start_ns>:<call_seq>` of each row."""
        tids = [t.tid for t in self.threads]
        return [f"{tids[t]}:{s}:{c}" for t, s, c in zip(rows.thread.tolist(), rows.start_ns.tolist(), rows.call_seq.tolist())]

    def find(self, span_id: str) -> Ref | None:
        """The span of an id; None: there is none, or the text is no id."""
        import numpy

        parts = span_id.split(":")
        if len(parts) != 3 or not all(part.isdecimal() and part.isascii() and len(part) <= 20 for part in parts):
            return None
        tid, start_ns, seq = map(int, parts)
        for thread in self.threads:
            if thread.tid != tid or seq > 0xFFFFFFFE:
                continue
            first, last = self._first[thread.position : thread.position + 2]
            row = first + int(numpy.searchsorted(self._columns.call_seq[first:last], numpy.uint32(seq)))
            if row < last and int(self._columns.call_seq[row]) == seq and int(self._columns.start_ns[row]) == start_ns:
                return thread.position, row - first
        return None

    # Which spans

    def _chosen(self, filter: Filter, check: Check | None = None) -> Any:
        """The rows of the table that pass, rising: int64."""
        import numpy

        c = self._columns
        mask: Any = None

        def also(condition: Any) -> None:
            nonlocal mask
            mask = condition if mask is None else numpy.logical_and(mask, condition, out=mask)
            if check:
                check()

        def members(keys: Iterable[int], size: int, column: Any) -> None:
            fits = numpy.zeros(max(size, 1), dtype=bool)
            fits[[key for key in keys if 0 <= key < size]] = True
            also(fits[column])

        # numpy.uint64 keeps comparisons in integers: a Python number above 2**53 would be rounded.
        if filter.threads is not None:
            members(filter.threads, len(self.threads), c.thread)
        if filter.functions is not None:
            members(filter.functions, len(self.functions), c.function)
        if filter.statuses is not None:
            members([STATUS.index(name) for name in filter.statuses], 256, c.status)
        if filter.start_ns is not None:
            also(c.start_ns >= numpy.uint64(filter.start_ns))
        if filter.end_ns is not None:
            also(c.end_ns <= numpy.uint64(filter.end_ns))
        if filter.overlap is not None:
            also(c.end_ns >= numpy.uint64(filter.overlap[0]))
            also(c.start_ns <= numpy.uint64(filter.overlap[1]))
        if filter.min_duration_ns is not None:
            also(c.end_ns - c.start_ns >= numpy.uint64(filter.min_duration_ns))
        if filter.max_duration_ns is not None:
            also(c.end_ns - c.start_ns <= numpy.uint64(filter.max_duration_ns))
        if filter.min_depth is not None:
            also(c.depth > numpy.uint64(filter.min_depth))
        if filter.max_depth is not None:
            also(c.depth <= numpy.uint64(min(filter.max_depth, 1 << 40) + 1))
        return numpy.arange(len(c)) if mask is None else numpy.flatnonzero(mask)

    def select(
        self,
        filter: Filter = ANY,
        order: Order = "start",
        ascending: bool = True,
        after_key: Sequence[int] | None = None,
        offset: int = 0,
        limit: int | None = None,
        check: Check | None = None,
    ) -> Selection:
        """One page of the spans that pass, ordered by (start, thread, row), or by (duration or self, start, thread, row).

        Descending is exactly the reverse. after_key: only what comes after this key in the order (`key_at`); the span of the key
        need not exist. offset, limit: then so many are left out, and at most so many given. check: called between steps.
        """
        import numpy

        c = self._columns
        chosen = self._chosen(filter, check)
        total = len(chosen)
        values = [c.start_ns[chosen]]
        if order != "start":
            values.insert(0, c.end_ns[chosen] - values[0] if order == "duration" else c.self_ns[chosen])
        if after_key is not None:
            *bounds, thread, row = after_key
            # The table is ordered by thread, then row: `place` is the first one at, or beyond, the key.
            place = self._first[thread] + min(row + ascending, self.thread_length(thread)) if thread < len(self.threads) else len(c)
            after, equal = numpy.zeros(total, dtype=bool), numpy.ones(total, dtype=bool)
            for column, bound in zip(values, bounds, strict=True):
                edge = numpy.uint64(bound)
                after |= equal & (column > edge if ascending else column < edge)
                equal &= column == edge
            after |= equal & (chosen >= place if ascending else chosen < place)
            chosen, values = chosen[after], [column[after] for column in values]
        if check:
            check()
        end = None if limit is None else offset + limit
        chosen = chosen[_in_order(values, ascending, end)[offset:end]]
        return Selection(total, self._refs(chosen))

    def _refs(self, rows: Any) -> Refs:
        thread = self._columns.thread[rows]
        return Refs(thread, rows - self._columns.thread_rows[thread])

    def _table_rows(self, refs: Refs) -> Any:
        return self._columns.thread_rows[refs.thread] + refs.row

    # What is known of them

    def gather(self, refs: Refs | Sequence[Ref]) -> SpanRows:
        """The columns of spans, in the order of the refs."""
        refs = refs if isinstance(refs, Refs) else make_refs(refs)
        return self._gather(refs, self._table_rows(refs))

    def rows(self, thread: int, first: int = 0, last: int | None = None) -> SpanRows:
        """The columns of the spans first up to last of a thread, in the order of their calls."""
        import numpy

        length = self.thread_length(thread)
        last = length if last is None else min(last, length)
        refs = Refs(numpy.full(max(0, last - first), thread, dtype=numpy.uint32), numpy.arange(first, max(first, last), dtype=numpy.int64))
        return self._gather(refs, slice(self._first[thread] + first, self._first[thread] + max(first, last)))

    def _gather(self, refs: Refs, at: Any) -> SpanRows:
        import numpy

        c = self._columns
        start_ns, end_ns, parent = c.start_ns[at], c.end_ns[at], c.parent[at]
        return SpanRows(
            thread=refs.thread,
            row=refs.row,
            start_ns=start_ns,
            end_ns=end_ns,
            duration_ns=end_ns - start_ns,
            active_ns=c.active_ns[at],
            self_ns=c.self_ns[at],
            depth=c.depth[at].astype(numpy.int64) - 1,
            status=c.status[at],
            call_seq=c.call_seq[at],
            end_seq=c.end_seq[at],
            parent=numpy.where(parent < 0, -1, parent - c.thread_rows[refs.thread]),
            function=c.function[at],
        )

    def child_counts(self, refs: Refs | Sequence[Ref]) -> Any:
        """How many spans each one called directly: uint32."""
        return self._columns.child_count[self._table_rows(refs if isinstance(refs, Refs) else make_refs(refs))]

    def children(self, ref: Ref) -> Refs:
        """What a span called directly, in the order of the calls."""
        with self._lock:
            if self._children is None:
                self._children = children_of(self._columns)
        first, rows = self._children
        row = self._first[ref[0]] + ref[1]
        return self._refs(rows[first[row] : first[row + 1]])

    def path(self, ref: Ref) -> Refs:
        """The callers of a span and itself, the root first."""
        found, row, base = [], self._first[ref[0]] + ref[1], self._first[ref[0]]
        while row >= 0:
            found.append((ref[0], row - base))
            row = int(self._columns.parent[row])
        return make_refs(found[::-1])

    def at(self, thread: int, time_ns: int) -> Ref | None:
        """Of the spans of a thread that had begun and not ended at a time (both ends inclusive), the one that began last."""
        import numpy

        first, last = self._first[thread : thread + 2]
        time = numpy.uint64(time_ns)
        fits = numpy.flatnonzero((self._columns.start_ns[first:last] <= time) & (self._columns.end_ns[first:last] >= time))
        return (thread, int(fits[-1])) if len(fits) else None

    # Sums

    def groups(self, group: Group) -> Groups:
        """The groups that spans fall into."""
        with self._lock:
            if group not in self._groups:
                self._groups[group] = group_spans(self.functions, self.threads, group)
            return self._groups[group]

    def totals(self, filter: Filter = ANY, group: Group = "function", check: Check | None = None) -> Totals:
        """Sums over the spans that pass, by group. Groups without a span have count 0."""
        return sum_groups(self._columns, self._chosen(filter, check), self.groups(group))

    def percentiles(
        self, filter: Filter, group: Group, members: Sequence[int], percents: Sequence[int], check: Check | None = None
    ) -> Any:
        """Active times by nearest rank: uint64 of shape (len(members), len(percents)), 0 for groups without a span.

        members: numbers of groups. percents: from 1 to 100; the value at rank ceil(p / 100 * count) of the rising times.
        """
        return ranks_of(self._columns, self._chosen(filter, check), self.groups(group), members, percents)


def _in_order(values: list[Any], ascending: bool, most: int | None) -> Any:
    """Positions that sort by the columns, ties by position; descending: the reverse. Only the first `most` need be right."""
    import numpy

    lead = values[0]
    candidates = None
    if most is not None and 0 < most < len(lead) // 8:
        worst = numpy.partition(lead, most - 1)[most - 1] if ascending else numpy.partition(lead, len(lead) - most)[len(lead) - most]
        candidates = numpy.flatnonzero(lead <= worst if ascending else lead >= worst)
        values = [column[candidates] for column in values]
    order = numpy.lexsort(values[::-1]) if len(values) > 1 else numpy.argsort(values[0], kind="stable")
    order = order if ascending else order[::-1]
    return order if candidates is None else candidates[order]

