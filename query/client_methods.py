"""The methods of the client. Written by .ci/client-methods from the Structs that validate and answer: change those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping  # noqa: F401
from typing import TYPE_CHECKING, Any, Literal  # noqa: F401

if TYPE_CHECKING:
    from atf.query.methods.trace_info import Info


class ClientMethods:
    """What Client inherits. trace_id may be left out where the client has one. None: not given.

    iter_...: every row of every page, one after the other; limit is then the size of a page.
    """

    def _typed(self, method: str, result: Any, /, **params: Any) -> Any:
        raise NotImplementedError

    def pages(self, method: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        raise NotImplementedError

    def trace_info(self, *, trace_id: str | None = None, include_checksums: bool = False, include_samples: bool = False) -> Info:
        """What a recording is: times, counts, threads, files, what was lost."""
        from atf.query.methods.trace_info import Info

        found: Info = self._typed(
            "trace.info",
            Info,
            trace_id=trace_id,
            include_checksums=include_checksums,
            include_samples=include_samples,
        )
        return found
