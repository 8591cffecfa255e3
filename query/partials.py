"""Sums over groups of spans that merge: in any order, from any machine, to the same bits.

A quantile comes from a histogram of active times, in the buckets of `atf._core.sums`: any time is within 1/32 of the
middle of its bucket. Adding histograms loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from atf._core.sums import BUCKETS, middle_of

_SUMS = ("count", "total_ns", "active_ns", "self_ns", "exceptions")
_COLUMNS = (*_SUMS, "min_ns", "max_ns")
_BITS = BUCKETS.bit_length() - 1
_NEVER = (1 << 64) - 1
_DENSE = 8  # cells for each that is filled, up to which adding up in place is quicker than sorting


@dataclass(frozen=True)
class Row:
    """Sums of one group. Times are active times in ns; recursion counts once in total_ns.

    key: (module, name, file, line) of a function, (module,) of a module, (process directory, number, tid, name) of a thread.
    histogram: {bucket: spans}, see `quantile_ns`.
    """

    key: tuple[Any, ...]
    count: int
    total_ns: int
    self_ns: int
    min_ns: int
    max_ns: int
    mean_ns: int
    exceptions: int
    histogram: dict[int, int]

    def quantile_ns(self, q: float) -> int:
        """The time that the fraction q (0 to 1) of the spans does not exceed; off by at most 1/32 of itself."""
        rank = min(max(1, math.ceil(q * self.count)), self.count)
        if rank == self.count:
            return self.max_ns
        for bucket, spans in self.histogram.items():
            rank -= spans
            if rank <= 0:
                return min(max(middle_of(bucket), self.min_ns), self.max_ns)
        return self.max_ns


class Table:
    """A partial: groups by key, in the order of their keys; before the first merge some of them may be empty.

    counts: {files, events, spans, returns_without_call, yields_without_call, resumes_without_call, gaps, events_lost}.
    """

    def __init__(self, keys: list[tuple[Any, ...]], sums: dict[str, Any], buckets: Any, spans: Any, counts: dict[str, int]) -> None:
        self.keys, self.counts = keys, counts
        self._sums = sums  # {name: uint64 of shape (keys,)}
        self._buckets, self._spans = buckets, spans  # position of the key * BUCKETS + bucket, rising; spans in it

    def merge(self, other: Table) -> Table:
        """The sums of both; `a.merge(b).merge(c)`, in whatever order, is the same to the bit."""
        return merged([self, other])

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Row]:
        """By the sum of self time, largest first; ties by key."""
        selfs = self._sums["self_ns"].tolist()
        columns = {name: self._sums[name].tolist() for name in _COLUMNS}
        histograms: list[dict[int, int]] = [{} for _ in self.keys]
        for code, spans in zip(self._buckets.tolist(), self._spans.tolist(), strict=True):
            histograms[code // BUCKETS][code % BUCKETS] = spans
        for i in sorted(range(len(self.keys)), key=lambda i: (-selfs[i], self.keys[i])):
            mean = columns["active_ns"][i] // columns["count"][i]
            shown = {name: columns[name][i] for name in _COLUMNS if name != "active_ns"}
            yield Row(key=self.keys[i], mean_ns=mean, histogram=histograms[i], **shown)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self.digest() == other.digest()

    __hash__ = None  # type: ignore[assignment]

    def digest(self) -> str:
        """32 hexadecimal digits that stand for every bit of it."""
        import hashlib

        keys, sums, steps, spans, counts = self.__getstate__()
        parts = [
            keys,
            *(sums[name].tobytes() for name in _COLUMNS),
            steps.tobytes(),
            spans.tobytes(),
            repr(sorted(counts.items())).encode(),
        ]
        return hashlib.blake2b(b"".join(len(p).to_bytes(8, "little") + p for p in parts), digest_size=16).hexdigest()

    def __getstate__(self) -> tuple[Any, ...]:
        import msgspec
        import numpy

        steps = numpy.diff(self._buckets, prepend=0)
        return msgspec.msgpack.encode(self.keys), self._sums, _narrow(steps), _narrow(self._spans), self.counts

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        import msgspec
        import numpy

        keys, self._sums, steps, spans, self.counts = state
        self.keys = msgspec.msgpack.decode(keys, type=list[tuple[Any, ...]])
        self._buckets, self._spans = numpy.cumsum(steps, dtype=numpy.int64), spans.astype(numpy.uint64)


def _narrow(values: Any) -> Any:
    """The same numbers in the smallest unsigned type that holds them."""
    import numpy

    return values.astype(numpy.min_scalar_type(int(values.max()) if len(values) else 0))


def merged(tables: Sequence[Table]) -> Table:
    """The sum of tables: groups without spans are left out."""
    import numpy

    lists = [table.keys for table in tables]
    same = all(keys == lists[0] for keys in lists)  # threads of one process
    keys = lists[0] if lists and same else sorted(set().union(*lists))
    place = {} if same else {key: i for i, key in enumerate(keys)}
    sums = {name: numpy.zeros(len(keys), dtype=numpy.uint64) for name in _COLUMNS}
    sums["min_ns"][:] = _NEVER
    codes: list[Any] = [numpy.zeros(0, dtype=numpy.int64)]
    spans_of: list[Any] = [numpy.zeros(0, dtype=numpy.uint64)]
    counts: dict[str, int] = {}
    for table in tables:
        to = numpy.arange(len(keys)) if same else numpy.array([place[key] for key in table.keys], dtype=numpy.int64)
        for name in _SUMS:
            sums[name][to] += table._sums[name]  # a key stands in a table once
        least = numpy.where(table._sums["count"] > 0, table._sums["min_ns"], numpy.uint64(_NEVER))
        sums["min_ns"][to] = numpy.minimum(sums["min_ns"][to], least)
        sums["max_ns"][to] = numpy.maximum(sums["max_ns"][to], table._sums["max_ns"])
        codes.append(table._buckets if same else _moved(table._buckets, to))
        spans_of.append(table._spans)
        for name, n in table.counts.items():
            counts[name] = counts.get(name, 0) + n
    found, spans = _added(numpy.concatenate(codes), numpy.concatenate(spans_of), len(keys))
    some = numpy.flatnonzero(sums["count"])
    if len(some) < len(keys):
        to = numpy.zeros(len(keys), dtype=numpy.int64)
        to[some] = numpy.arange(len(some))
        found = _moved(found, to)
        keys, sums = [keys[i] for i in some.tolist()], {name: column[some] for name, column in sums.items()}
    return Table(keys, sums, found, spans, counts)


def _moved(codes: Any, to: Any) -> Any:
    """Codes of the same buckets, of the keys at other positions."""
    return to[codes >> _BITS] << _BITS | codes & BUCKETS - 1


def _added(codes: Any, spans: Any, keys: int) -> tuple[Any, Any]:
    """(the distinct codes, rising; the sum of the spans of each)."""
    import numpy

    buckets = codes & BUCKETS - 1
    bits = int(buckets.max()).bit_length() if len(codes) else 0
    if keys << bits <= _DENSE * len(codes):
        cells = numpy.zeros(keys << bits, dtype=numpy.uint64)
        numpy.add.at(cells, codes >> _BITS << bits | buckets, spans)
        found = numpy.flatnonzero(cells)
        return found >> bits << _BITS | found & (1 << bits) - 1, cells[found]
    found, where = numpy.unique(codes, return_inverse=True)
    sums = numpy.zeros(len(found), dtype=numpy.uint64)
    numpy.add.at(sums, where, spans)
    return found, sums
