"""What a summary says: claims, each with the spans and events that it rests on, and how many of them fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from msgspec import UNSET, UnsetType

from atf.query.chunks import Check
from atf.query.examples import ids_of
from atf.query.handles import thread_handles
from atf.query.params import Result
from atf.query.spanset import Ref, Refs, SpanSet, make_refs

if TYPE_CHECKING:
    from atf.query.traces import View

Kind = Literal["overview", "lost", "exception", "open", "self", "path", "slowest", "outlier", "repetition"]
KINDS: tuple[Kind, ...] = get_args(Kind)
BYTES_A_TOKEN = 4


class Claim(Result):
    """One sentence. value: its main number, in unit. spanIds, eventIds: what it rests on, for spans.list, spans.path and events.detail."""

    kind: Kind
    text: str
    value: int | float
    unit: Literal["ns", "calls", "events", "exceptions", "spans", "times"]
    span_ids: list[str]
    event_ids: list[str]
    function_name: str | UnsetType = UNSET
    module_name: str | UnsetType = UNSET


class Subject:
    """A trace that is being summed up. Finders of claims take one."""

    def __init__(self, view: View, check: Check) -> None:
        self.view, self.check = view, check
        self.spans = SpanSet.of(view)
        self.labels = self.spans.groups("function").labels
        self.member: Any = self.spans.groups("function").member

    def ids(self, refs: Refs | Sequence[Ref | None]) -> list[str]:
        """The ids of spans, each once."""
        if not isinstance(refs, Refs):
            refs = make_refs([ref for ref in refs if ref is not None])
        return list(dict.fromkeys(id for id in ids_of(self.spans, refs) if id is not None))

    def event_id(self, thread: int, index_seq: int) -> str:
        return f"{thread_handles(self.view)[thread]}:{index_seq}"

    def label_of(self, ref: Ref) -> Any:
        return self.labels[self.member[int(self.spans.gather([ref]).function[0])]]

    def since_start(self, time_ns: int) -> int:
        return time_ns - self.view.start_ns


Finder = Callable[[Subject], list[Claim]]


def line(claim: Claim) -> str:
    evidence = [*(f"span {id}" for id in claim.span_ids[:1]), *(f"event {id}" for id in claim.event_ids[:1] if not claim.span_ids)]
    return claim.text + (f" [{evidence[0]}]" if evidence else "")


def fitting(claims: Sequence[Claim], kinds: Sequence[Kind], most_bytes: int) -> list[Claim]:
    """Those that fit into a text of `most_bytes`: the first of every kind before the second of any; in the order of the kinds."""
    by_kind = {kind: [claim for claim in claims if claim.kind == kind] for kind in kinds}
    turns = [(rank, place, claim) for place, kind in enumerate(by_kind) for rank, claim in enumerate(by_kind[kind])]
    chosen, left, full = [], most_bytes, set()
    for rank, place, claim in sorted(turns, key=lambda turn: turn[:2]):
        size = len(line(claim).encode()) + 1
        if claim.kind in full or size > left:
            full.add(claim.kind)  # a later one of the kind must not stand without those before it
            continue
        left -= size
        chosen.append((place, rank, claim))
    return [claim for _, _, claim in sorted(chosen, key=lambda turn: turn[:2])]
