"""Triggers: what marks a moment as worth keeping, as the command line spells it. ``docs/flight-recorder.md`` has the table."""

from __future__ import annotations

import datetime
import re
import signal
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from atf._core.errors import UsageError
from atf.expression import Expression, NotAnExpression

KINDS = "symbol=, symbol~=, exception=, duration=, crash, signal=, time= or python="
_HEAD = re.compile(r"(symbol~|symbol|exception|duration|crash|signal|time|python)\s*(=|$)")
_SCALE_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|min|m|h)")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
LONGEST_NS = 366 * 86400 * 10**9
_TYPE = re.compile(r"\*|[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class Trigger:
    """One ``--trigger``. kind: symbol, exception, duration, crash, signal, time, python or mark.

    names: functions asked for by name; pattern: by regular expression; threshold_ns: of durations; number: of the signal;
    seconds: (start, end) of ``time=+…`` in seconds after the recording began, end None: a mark there; clock: (start, end) of a
    time of day, seconds after midnight, local time; text: of the exception or expression.
    """

    said: str
    kind: str
    names: tuple[str, ...] = ()
    pattern: re.Pattern[str] | None = None
    threshold_ns: int = 0
    number: int = 0
    seconds: tuple[float, float | None] | None = None
    clock: tuple[int, int] | None = None
    text: str = ""
    expression: Expression | None = field(default=None, compare=False)

    def wants(self, module: str, name: str) -> bool:
        """Whether a function is one of those asked for: by its own name, or with its module before it (``module::name``)."""
        if self.pattern is not None:
            return self.pattern.search(f"{module}::{name}") is not None
        return any(one in (name, f"{module}::{name}", f"{module}.{name}") for one in self.names)


def _refuse(said: str, at: int, why: str) -> NoReturn:
    raise UsageError(f"trigger: {why}\n  {said}\n  {' ' * at}^")


def parse(said: str) -> Trigger:
    """A trigger from its text. UsageError that points at the place where it stops making sense."""
    for at, letter in enumerate(said):
        if (letter < " " and letter != "\t") or "\ud800" <= letter <= "\udfff":
            _refuse(said[:at], at, f"{letter!r} cannot stand in a trigger")
    head = _HEAD.match(said)
    if head is None:
        _refuse(said, 0, f"begin with {KINDS}")
    word, at = head[1], head.end()
    rest = said[at:]
    if word == "crash":
        if head[2]:
            _refuse(said, head.start(2), "crash stands alone")
        return Trigger(said, "crash")
    if not head[2] or not rest.strip():
        _refuse(said, at, f"write what follows {word}=")
    return _PARSERS[word](said, at, rest)


def parse_all(texts: Iterable[str]) -> list[Trigger]:
    return [parse(text) for text in texts]


def _symbol(said: str, at: int, rest: str) -> Trigger:
    names = []
    for part in rest.split(","):
        if not part.strip():
            _refuse(said, at, "a name is empty")
        if part != part.strip() or part.endswith("::") or part.startswith("::"):
            _refuse(said, at, f"{part!r} is no name: write name or module::name")
        names.append(part)
        at += len(part) + 1
    return Trigger(said, "symbol", names=tuple(names))


def _pattern(said: str, at: int, rest: str) -> Trigger:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Trigger(said, "symbol", pattern=re.compile(rest))
    except re.error as error:
        _refuse(said, at + (error.pos or 0), f"not a regular expression: {error.msg}")
    except (OverflowError, RecursionError) as error:
        _refuse(said, at, f"not a regular expression: {error}")


def _exception(said: str, at: int, rest: str) -> Trigger:
    if not _TYPE.fullmatch(rest):
        _refuse(said, at, "write the exception's class, such as ValueError or app.errors.Refused, or * for any")
    if len(rest.encode()) > 119:
        _refuse(said, at + len(rest.encode()[:119].decode(errors="ignore")), "the name is too long")
    return Trigger(said, "exception", text=rest)


def _amount(said: str, at: int, text: str) -> int:
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        _refuse(said, at, f"{text!r} is not a duration: write a number and one of {', '.join(_SCALE_NS)}")
    value = float(found[1]) * _SCALE_NS[found[2]]
    if value > LONGEST_NS:
        _refuse(said, at, f"{text!r} is more than a year")
    return round(value)


def _duration(said: str, at: int, rest: str) -> Trigger:
    name, sign, amount = rest.partition(">")
    if not sign:
        _refuse(said, at + len(rest), "write NAME>50ms")
    if not name.strip():
        _refuse(said, at, "which function? write NAME>50ms")
    return Trigger(said, "duration", names=(name.strip(),), threshold_ns=_amount(said, at + len(name) + 1, amount))


def _signal(said: str, at: int, rest: str) -> Trigger:
    name = rest.strip().upper()
    found = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if not isinstance(found, signal.Signals) or found in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD):
        _refuse(said, at, f"{rest!r} is no signal that can be received here, such as SIGUSR1")
    return Trigger(said, "signal", number=int(found))


def _time(said: str, at: int, rest: str) -> Trigger:
    start, dash, end = rest.partition("-")
    behind = at + len(start) + 1
    if start.startswith("+"):
        begins = _amount(said, at + 1, start[1:])
        if not dash:
            return Trigger(said, "time", seconds=(begins / 1e9, None))
        if not end.startswith("+"):
            _refuse(said, behind, "both ends are written like +30s")
        ends = _amount(said, behind + 1, end[1:])
        if ends <= begins:
            _refuse(said, behind, "it ends before it begins")
        return Trigger(said, "time", seconds=(begins / 1e9, ends / 1e9))
    if not dash:
        _refuse(said, at + len(rest), "write from-to, such as 10:30-10:45, or +30s")
    return Trigger(said, "time", clock=(_of_day(said, at, start), _of_day(said, behind, end)))


def _of_day(said: str, at: int, text: str) -> int:
    found = _CLOCK.fullmatch(text.strip())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 59:
        _refuse(said, at, f"{text!r} is no time of day: write 10:30 or 10:30:15")
    return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3] or 0)


def _python(said: str, at: int, rest: str) -> Trigger:
    text = rest.strip()
    try:
        return Trigger(said, "python", text=text, expression=Expression(text))
    except NotAnExpression as error:
        _refuse(said, at + len(rest) - len(rest.lstrip()) + error.at, str(error))


_PARSERS = {
    "symbol": _symbol,
    "symbol~": _pattern,
    "exception": _exception,
    "duration": _duration,
    "signal": _signal,
    "time": _time,
    "python": _python,
}


def _moment(naive: datetime.datetime, fold: int) -> float:
    """When the local clock shows a time: Unix seconds. fold 0: the first time it does, 1: the last. A time that it leaps over:
    the moment of the leap."""
    moment = naive.replace(fold=fold).timestamp()
    if datetime.datetime.fromtimestamp(moment) == naive:
        return moment
    low, high = sorted(round(naive.replace(fold=one).timestamp()) for one in (0, 1))
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.datetime.fromtimestamp(middle) < naive:
            low = middle
        else:
            high = middle
    return float(high)


def next_clock_window(clock: tuple[int, int], now: float) -> tuple[float, float]:
    """The window of a time of day, local time, that is open at ``now`` or comes next: Unix seconds, end not included. It may reach
    past midnight. When the clock is set back within it, it goes on until the clock shows its end for the last time."""
    today = datetime.datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = clock
    for day in range(-1, 4):  # a window that lies wholly in what the clock leaps over is skipped
        opens = _moment(today + datetime.timedelta(days=day, seconds=start), 0)
        closes = _moment(today + datetime.timedelta(days=day + (end <= start), seconds=end), 1)
        if closes > max(now, opens):
            return opens, closes
    raise AssertionError("a window comes every day")
