"""Exceptions that were raised in a window: which were swallowed, and which escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from atf import call_lines, exceptions, wording
from atf._core.errors import UsageError
from atf.count import Count
from atf.trace_filters import glob
from atf.window_rows import only_calls

if TYPE_CHECKING:
    from atf.exceptions import Thrown
    from atf.windows import Window

_SHOWN = 6


class Raised(Count):
    """Exceptions by time: a number that is compared as an int, and the objects (atf.exceptions.Thrown).

    Only an exception that left a recorded function is seen, once, however many functions it left.
    """

    def __init__(self, window: Window, wanted: str, found: list[Thrown], how: str, missing: str | None) -> None:
        super().__init__(len(found), missing)
        self._window, self._wanted, self._found, self._how = window, wanted, found, how
        self.at_least = how == ""

    @property
    def swallowed(self) -> Raised:
        """Those that a call in the window caught."""
        return self._part("swallowed", lambda one: self._window.rows.holds(one.catcher))

    @property
    def escaped(self) -> Raised:
        """Those that no call in the window caught: they left the outermost one, whoever caught them then."""
        return self._part("escaped", lambda one: not self._window.rows.holds(one.catcher))

    def _part(self, how: str, belongs: Callable[[Thrown], bool]) -> Raised:
        return Raised(self._window, self._wanted, [one for one in self._found if belongs(one)], how, self.missing)

    def __len__(self) -> int:
        return self._whole()

    def __iter__(self) -> Iterator[Thrown]:
        self._whole()
        return iter(self._found)

    def title(self) -> str:
        what = self._wanted if self._wanted != "*" else "any type"
        return f"{self._seen} exception{'s' * (self._seen != 1)} of {what}{f' {self._how}' if self._how else ''}"

    def lines(self) -> list[str]:
        rows, lines = self._window.rows, []
        for one in self._found[:_SHOWN]:
            said = wording.first_line(wording.exception({"type": one.type, "message": one.message})) if one.type else "an exception"
            caught = f"caught in {rows.function(one.catcher).qualified}" if one.catcher >= 0 else "caught in nothing that was recorded"
            lines.append(wording.clean(f"  {said}  {caught}"))
            chain = exceptions.chain(rows, one)
            lines += [f"  {line}" for line in call_lines.tree(rows, chain, marked=set(chain))]
        return [*lines, f"  … and {self._seen - _SHOWN} more"] if self._seen > _SHOWN else lines


def raised(window: Window, wanted: Any) -> Raised:
    name, fits = _fitting(wanted)
    every = exceptions.thrown(window.rows)
    verdicts = [fits(one.type) for one in every]
    missing = window.lost
    if missing is None and any(only_calls(p.manifest.data.get("level")) for p in window.trace.processes):
        missing = "at level 'calls' no exceptions are recorded; record with level='returns'"
    unknown = [one.type for one, verdict in zip(every, verdicts) if verdict is None]
    if missing is None and None in unknown:
        missing = f"of {unknown.count(None)} exceptions in the window the type was not recorded (under the profile hook it never is)"
    elif missing is None and unknown:
        missing = f"whether {unknown[0]} is one is not known here: import its module before, or ask by name"
    return Raised(window, name, [one for one, verdict in zip(every, verdicts) if verdict], "", missing)


def _fitting(wanted: Any) -> tuple[str, Callable[[str | None], bool | None]]:
    """(what to call it, whether a recorded type fits, None: not known): a class and its subclasses, or a pattern of the name."""
    if wanted is None:
        return "*", lambda type: True
    if isinstance(wanted, str):
        by_name = glob("raised", wanted)
        return wanted, lambda type: None if type is None else by_name(type) or by_name(type.rpartition(".")[2])
    if not (isinstance(wanted, type) and issubclass(wanted, BaseException)):
        raise UsageError(f"raised({wanted!r}): give an exception class, or a pattern of its name")
    if wanted is BaseException:
        return wanted.__qualname__, lambda type: True
    names, known = _names(wanted), _names(BaseException)
    # A class of a module that this process has not loaded may be a subclass.
    return wanted.__qualname__, lambda type: True if type in names else False if type in known else None


def _names(root: type[BaseException]) -> set[str | None]:
    """The names of a class and all its subclasses, as recordings have them."""
    found: set[str | None] = set()
    pending, seen = [root], {root}
    while pending:
        one = pending.pop()
        found |= {f"{one.__module__}.{name}".removeprefix("builtins.") for name in (one.__qualname__, one.__name__)}
        new = set(type.__subclasses__(one)) - seen
        seen |= new
        pending += new
    return found
