"""A few events of a trace, to see what is in it: the first, the last, and some by chance, always the same."""

from __future__ import annotations

import random
import zlib
from typing import Any

from atf.query.eventpages import Listing
from atf.query.eventrows import EventProjection, EventRow, event_columns, rows_of
from atf.query.params import Result
from atf.query.traces import View
from atf.trace_filters import LAST_NS

_COUNT = 5
_SHOWN = EventProjection(event_id=True, function_name=True, module_name=True, depth=True)


class Samples(Result):
    """Five events each, in order of time. randomEvents: the same ones as long as the trace stays the same."""

    first_events: list[EventRow]
    last_events: list[EventRow]
    random_events: list[EventRow]


def samples_of(view: View, check: Any) -> Samples:
    listing = Listing(view.trace.threads, (0, LAST_NS), None, "timestamp", check)

    def rows(offset: int, count: int) -> list[EventRow]:
        page = listing.page(count, True, offset, None, check)
        return rows_of(event_columns(view, page.threads, page.positions, page.events, _SHOWN))

    count = min(_COUNT, listing.total)
    chance = random.Random(zlib.crc32(f"{view.path.name} {listing.total}".encode()))
    ranks = sorted(chance.sample(range(listing.total), count))
    return Samples(
        first_events=rows(0, _COUNT),
        last_events=rows(listing.total - count, _COUNT),
        random_events=[row for rank in ranks for row in rows(rank, 1)],
    )
