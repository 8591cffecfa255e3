"""All spans of a trace, for questions: filtered, ordered, paged, grouped.

A span is named by a ref: (thread, row), its thread's position in `trace.threads` and its place among that thread's spans,
which are in the order of their calls. What is asked comes from the span indexes of the threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from atf._core.index_marks import Marks
from atf._core.spans import STATUS
from atf.query import indexes, spanpick
from atf.query.spangroups import Group, Groups, Totals, group_spans, ranks_of, sum_groups
from atf.query.spantypes import ANY, Check, Filter, Order, Ref, Refs, Selection, SpanRows, make_refs
from atf.query.spantypes import KEY_LENGTH as KEY_LENGTH
from atf.query.spantypes import key_at as key_at
from atf.trace_filters import glob

if TYPE_CHECKING:
    from atf._core.index import ThreadIndex
    from atf.query.traces import View

_KEPT = 4  # filters whose marks are kept: an eighth of a byte a span each
_COUNTS = ("returns_without_call", "yields_without_call", "resumes_without_call", "gaps", "events_lost")
_LAST_NS, _DEEPEST = (1 << 64) - 1, (1 << 32) - 1


class SpanSet:
    """threads: those of the trace. functions: [Function] by function key; ids of two processes never share a key.

    counts: {returns_without_call, yields_without_call, resumes_without_call, gaps, events_lost}. len(): all spans.
    Every method may be called from several threads at once.
    """

    def __init__(self, view: View, check: Check | None = None) -> None:
        import numpy

        trace = view.trace  # no reference to the view: what it lets go of is free at once
        self.indexes: list[ThreadIndex] = indexes.indexes_of(trace, check)
        self.threads = trace.threads
        self.counts = dict.fromkeys(_COUNTS, 0)
        for index in self.indexes:
            for name, count in index.counts.items():
                self.counts[name] += count
        self.functions: list[Any] = []
        self.space: list[int] = []  # the process of each function, as its position
        self.keys: list[Any] = [None] * len(self.threads)  # of each thread: function keys by position in its table, uint32
        for process in trace.processes:
            mine = [self.indexes[t.position].functions["function_id"] for t in process.threads]
            ids = numpy.unique(numpy.concatenate(mine)) if mine else numpy.empty(0, dtype=numpy.uint64)
            for thread, of_thread in zip(process.threads, mine):
                self.keys[thread.position] = (numpy.searchsorted(ids, of_thread) + len(self.functions)).astype(numpy.uint32)
            self.functions += [process.function(id) for id in ids.tolist()]
            self.space += [process.position] * len(ids)
        self._lock = threading.Lock()
        self._groups: dict[Group, Groups] = {}
        self._kept: OrderedDict[Any, Any] = OrderedDict()

    @staticmethod
    def of(view: View, check: Check | None = None) -> SpanSet:
        """The spans of a view; made at the first question. check: called while this waits for an index that is made."""
        if "spanset" not in view.derived:
            indexes.indexes_of(view.trace, check)  # not under the lock of the view: who waits here must be able to give up
        made: SpanSet = view.once("spanset", SpanSet)
        return made

    def check(self) -> None:
        """Raises FormatError when an index has been cut, or turned out to be made up; the next view then makes it anew."""
        for index in self.indexes:
            if index.damaged:
                indexes.reject(index)
            index.check()

    def __len__(self) -> int:
        return sum(map(len, self.indexes))

    def thread_length(self, thread: int) -> int:
        """How many spans a thread has: its rows are 0 up to this."""
        return len(self.indexes[thread])

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
            index = self.indexes[thread.position]
            row = index.row_of(seq)
            if row >= 0 and int(index.starts(numpy.array([row], dtype=numpy.uint32))[0]) == start_ns:
                return thread.position, row
        return None

    # Which spans

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value that is dear to make and not large; the few used last are kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made

    def marks(self, filter: Filter = ANY, check: Check | None = None) -> list[Marks]:
        """What passes of each thread that has any."""
        made: list[Marks] = self._once((filter, "marks"), lambda: list(self._mark(filter, check)))
        return made

    def _mark(self, filter: Filter, check: Check | None) -> Iterator[Marks]:
        first, last = filter.overlap or (0, _LAST_NS)
        bounds: dict[str, int] = {
            "start_from_ns": filter.start_ns or 0,
            "start_until_ns": last,
            "end_from_ns": first,
            "end_until_ns": _LAST_NS if filter.end_ns is None else filter.end_ns,
            "min_ns": filter.min_duration_ns or 0,
            "max_ns": _LAST_NS if filter.max_duration_ns is None else filter.max_duration_ns,
            "min_depth": min((filter.min_depth or 0) + 1, _DEEPEST),
            "max_depth": _DEEPEST if filter.max_depth is None else min(filter.max_depth + 1, _DEEPEST),
            "statuses": (1 << len(STATUS)) - 1 if filter.statuses is None else sum(1 << STATUS.index(name) for name in filter.statuses),
        }
        for position, numbers in self.parts(filter):
            marks = Marks(self.indexes[position], numbers, **bounds, check=check)
            if len(marks):
                yield marks

    def parts(self, filter: Filter) -> Iterator[tuple[int, list[int] | None]]:
        """(position of a thread, numbers of functions in its table, or None: all) by the threads and functions of a filter."""
        import numpy

        wanted = None if filter.functions is None else numpy.zeros(len(self.functions), dtype=bool)
        if wanted is not None:
            wanted[[key for key in filter.functions or () if 0 <= key < len(wanted)]] = True
        for position in range(len(self.threads)):
            if filter.threads is None or position in filter.threads:
                yield position, None if wanted is None else numpy.flatnonzero(wanted[self.keys[position]]).tolist()

    def position(self, index: ThreadIndex) -> int:
        """Which thread an index is of."""
        return self._positions[id(index)]

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {id(index): position for position, index in enumerate(self.indexes)}

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
        marks = self.marks(filter, check)
        parts = [spanpick.Part(self.position(one.index), one) for one in marks]
        refs = spanpick.page(parts, order, ascending, after_key, offset, limit, check)
        return Selection(sum(map(len, marks)), refs)

    # What is known of them

    def gather(self, refs: Refs | Sequence[Ref]) -> SpanRows:
        """The columns of spans, in the order of the refs."""
        import numpy

        refs = refs if isinstance(refs, Refs) else make_refs(refs)
        columns: dict[str, Any] = {}
        for thread, at in _by_thread(refs):
            found = self.indexes[thread].gather(refs.row[at].astype(numpy.uint32))
            found["depth"] = found["depth"].astype(numpy.int64) - 1
            found["function"] = self.keys[thread][found.pop("number")]
            del found["function_id"]
            for name, values in found.items():
                if name not in columns:
                    columns[name] = numpy.empty(len(refs.row), dtype=values.dtype)
                columns[name][at] = values
        if not columns:
            columns = {name: numpy.empty(0, dtype=kind) for name, kind in _EMPTY.items()}
        return SpanRows(thread=refs.thread, row=refs.row, **columns)

    def rows(self, thread: int, first: int = 0, last: int | None = None) -> SpanRows:
        """The columns of the spans first up to last of a thread, in the order of their calls."""
        import numpy

        length = self.thread_length(thread)
        first = max(0, first)
        last = max(first, length if last is None else min(last, length))
        return self.gather(Refs(numpy.full(last - first, thread, dtype=numpy.uint32), numpy.arange(first, last, dtype=numpy.int64)))

    def child_counts(self, refs: Refs | Sequence[Ref]) -> Any:
        """How many spans each one called directly: uint32."""
        import numpy

        refs = refs if isinstance(refs, Refs) else make_refs(refs)
        counts = numpy.empty(len(refs.row), dtype=numpy.uint32)
        for thread, at in _by_thread(refs):
            counts[at] = self.indexes[thread].child_counts(refs.row[at].astype(numpy.uint32))
        return counts

    def children(self, ref: Ref) -> Refs:
        """What a span called directly, in the order of the calls."""
        return _refs_of(ref[0], self.indexes[ref[0]].children(ref[1]))

    def path(self, ref: Ref) -> Refs:
        """The callers of a span and itself, the root first."""
        return _refs_of(ref[0], self.indexes[ref[0]].path(ref[1]))

    def at(self, thread: int, time_ns: int) -> Ref | None:
        """Of the spans of a thread that had begun and not ended at a time (both ends inclusive), the one that began last."""
        row = self.indexes[thread].at(time_ns)
        return None if row < 0 else (thread, row)

    # Sums

    def groups(self, group: Group) -> Groups:
        """The groups that spans fall into."""
        with self._lock:
            if group not in self._groups:
                self._groups[group] = group_spans(self.functions, self.space, self.threads, group)
            return self._groups[group]

    def totals(self, filter: Filter = ANY, group: Group = "function", check: Check | None = None) -> Totals:
        """Sums over the spans that pass, by group. Groups without a span have count 0."""
        made: Totals = self._once((filter, "totals", group), lambda: sum_groups(self, filter, self.groups(group), check))
        return made

    def percentiles(
        self, filter: Filter, group: Group, members: Sequence[int], percents: Sequence[int], check: Check | None = None
    ) -> Any:
        """Active times by nearest rank: uint64 of shape (len(members), len(percents)), 0 for groups without a span.

        members: numbers of groups. percents: from 1 to 100; the value at rank ceil(p / 100 * count) of the rising times.
        """
        return ranks_of(self, filter, self.groups(group), members, percents, check)


_EMPTY = dict.fromkeys(("start_ns", "end_ns", "duration_ns", "active_ns", "self_ns"), "u8") | dict.fromkeys(("depth", "parent"), "i8")
_EMPTY |= dict.fromkeys(("call_seq", "end_seq", "function"), "u4") | {"status": "u1"}


def _by_thread(refs: Refs) -> Iterator[tuple[int, Any]]:
    """(thread, positions of its refs, or a slice: all)."""
    import numpy

    if not len(refs.thread):
        return
    threads = numpy.unique(refs.thread).tolist()
    for thread in threads:
        yield thread, slice(None) if len(threads) == 1 else numpy.flatnonzero(refs.thread == numpy.uint32(thread))


def _refs_of(thread: int, rows: Any) -> Refs:
    import numpy

    return Refs(numpy.full(len(rows), thread, dtype=numpy.uint32), rows.astype(numpy.int64))
