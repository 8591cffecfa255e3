"""Events and spans of the user's own: ``atf.span``, ``atf.event``, ``atf.mark``, ``@atf.traced``."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, overload

from atf._core.recorder import Span as span
from atf._core.recorder import event

__all__ = ["event", "mark", "span", "traced"]
F = TypeVar("F", bound=Callable[..., Any])


def mark(name: str = "mark", /, **attributes: Any) -> None:
    """Write an event that says: keep what happened around here."""
    event(name, mark=True, **attributes)


@overload
def traced(function: F, /) -> F: ...
@overload
def traced(*, name: str | None = None) -> Callable[[F], F]: ...


def traced(function: Any = None, /, *, name: str | None = None) -> Any:
    """Record every call of a function as a span, whatever the filters say; plain, async, generator and async generator functions.

    name: of the span; default ``module.qualname``.
    """
    if function is None:
        return functools.partial(traced, name=name)
    import inspect

    label = name or f"{function.__module__}.{function.__qualname__}"

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with span(label):
                return await function(*args, **kwargs)

    elif inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with span(label):
                async for value in function(*args, **kwargs):
                    yield value

    elif inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with span(label):
                return (yield from function(*args, **kwargs))

    else:

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with span(label):
                return function(*args, **kwargs)

    return wrapper
