"""The exceptions of a whole trace in groups: where they were raised, which functions they left, and which one caught them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atf.exceptions import exception_of, passing, type_of
from atf.query.chunks import Check, chunks
from atf.query.spanset import Ref, Refs, SpanSet

RAISED = 1  # status of a span that an exception left
MOST_LOOKED_AT = 2000  # details that are read for one question
MOST_OF_GROUP = 100
_WENT_ON = 1000  # events after an exception by which something that was not recorded, such as C code, must have caught it


@dataclass
class Group:
    """Exceptions that were raised in the same function and caught in the same one (None: in none that was recorded).

    origin, top, catcher: of the first of them, the span it was raised in, the last that it left, and the one that caught it. end_seq:
    of the event that ended the origin. became: its type when it left the top, where that is another. followed: events that came
    on the thread after the last of them. types: how often each, of those looked at (a share, when they are many); None: not recorded.
    """

    raised_in: int
    caught_in: int | None
    count: int
    origin: Ref
    top: Ref
    catcher: Ref | None
    end_seq: int
    followed: int
    became: str | None = None
    types: dict[str | None, int] = field(default_factory=dict)
    looked_at: int = 0
    message: str | None = None


class _Thread:
    """The spans of one thread that an exception left, in the order of their calls, and which of them are one exception."""

    def __init__(self, spans: SpanSet, thread: int, budget: list[int], check: Check | None) -> None:
        import numpy

        self.thread = thread
        found: dict[str, list[Any]] = {name: [] for name in ("row", "parent", "end_seq", "function")}
        for rows in chunks(spans, frozenset([thread]), check):
            mine = numpy.flatnonzero(rows.status == RAISED)
            for name, values in found.items():
                values.append(getattr(rows, name)[mine])
        none = numpy.zeros(0, dtype=numpy.int64)
        self.row, self.parent, self.end_seq, self.function = (
            numpy.concatenate(values).astype(numpy.int64) if values else none for values in found.values()
        )
        events = spans.threads[thread]

        def same(at: int, caller: int) -> bool:
            budget[0] -= 2
            said = None if budget[0] < 0 else exception_of(events, int(self.end_seq[at]))
            return said is not None and said == exception_of(events, int(self.end_seq[caller]))

        self.origins, self.top = passing(self.row, self.parent, self.end_seq, same)


def exceptions(spans: SpanSet, check: Check | None = None) -> list[Group]:
    """All exceptions of a trace by where they were raised and caught.

    Those that nothing caught come first, of them what was nearest to the end of its thread; then the most frequent, and with them
    those after which the thread went on for long. Those of the interpreter's own frozen modules come last: importing goes by exceptions.
    """
    import numpy

    member = spans.groups("function").member
    groups: dict[tuple[int, int], Group] = {}
    places: dict[tuple[int, int], list[tuple[int, int]]] = {}
    left: dict[tuple[int, int], int] = {}  # the last function that it left
    budget = [MOST_LOOKED_AT]
    for thread in range(len(spans.threads)):
        of = _Thread(spans, thread, budget, check)
        if not len(of.row):
            continue
        origins = numpy.flatnonzero(of.origins)
        tops = of.top[origins]
        catcher = of.parent[tops]
        caught = catcher >= 0
        caught_in = numpy.full(len(origins), -1, dtype=numpy.int64)
        refs = Refs(numpy.full(int(caught.sum()), thread, dtype=numpy.uint32), catcher[caught])
        caught_in[caught] = member[spans.gather(refs).function]
        keys = member[of.function[origins]].astype(numpy.int64) << 32 | caught_in + 1
        order = numpy.argsort(keys, kind="stable")
        starts = numpy.flatnonzero(numpy.diff(keys[order], prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(order)]):
            at = int(order[start])
            key, top = (int(keys[at]) >> 32, (int(keys[at]) & 0xFFFFFFFF) - 1), int(tops[at])
            made = groups.setdefault(
                key,
                Group(
                    raised_in=key[0],
                    caught_in=key[1] if key[1] >= 0 else None,
                    count=0,
                    origin=(thread, int(of.row[origins[at]])),
                    top=(thread, int(of.row[top])),
                    catcher=(thread, int(catcher[at])) if catcher[at] >= 0 else None,
                    end_seq=int(of.end_seq[origins[at]]),
                    followed=len(spans.threads[thread].index),
                ),
            )
            left.setdefault(key, int(member[of.function[top]]))
            made.count += end - start
            last = int(of.end_seq[tops[order[start:end]]].max())
            made.followed = min(made.followed, len(spans.threads[thread].index) - 1 - last)
            some = of.end_seq[origins[order[start : min(end, start + MOST_OF_GROUP)]]].tolist()
            places.setdefault(key, []).extend((thread, end_seq) for end_seq in some)
    labels = spans.groups("function").labels

    def rank(item: tuple[tuple[int, int], Group]) -> tuple[Any, ...]:
        # What leaves the program's own module has ended it, however much the interpreter does to print it (from 3.13 on in Python).
        ended = labels[left[item[0]]].name == "<module>" and labels[left[item[0]]].module == "__main__"
        caught = item[1].caught_in is not None or (item[1].followed > _WENT_ON and not ended)
        return labels[item[0][0]].file.startswith("<frozen"), caught, 0 if caught else item[1].followed, -item[1].count, item[0]

    found = sorted(groups.items(), key=rank)
    for key, group in found:
        for thread, end_seq in places[key][:MOST_OF_GROUP]:
            if budget[0] <= 0:
                break
            budget[0] -= 1
            said = exception_of(spans.threads[thread], end_seq)
            type = type_of(said)
            group.types[type] = group.types.get(type, 0) + 1
            group.looked_at += 1
            if group.message is None and said and "message" in said:
                group.message = said["message"]
        if group.origin != group.top and budget[0] > 0:
            end = int(spans.gather([group.top]).end_seq[0])
            began, ended = (type_of(exception_of(spans.threads[group.top[0]], seq)) for seq in (group.end_seq, end))
            group.became = ended if ended != began else None
    return [group for _, group in found]
