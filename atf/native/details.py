"""What is recorded of native calls besides their times, and which calls are: what a user asks for, checked, and as the plan has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atf._core.errors import UsageError

ENTRY_ONLY, ARGS, BACKTRACE = 2, 4, 8  # of a plan
FN_DETAILS, FN_TIMED = 2, 4  # of a function
STACK_BYTES_MOST = 256
DURATION_MOST_NS = 3600 * 10**9


@dataclass(frozen=True)
class Details:
    """level: calls or returns. stack_bytes: of the caller's stack, with each call. min_duration_ns: 0: every call is recorded.

    strings: what char * arguments point to.
    """

    level: str = "returns"
    args: bool = False
    stack_bytes: int = 0
    backtrace: bool = False
    min_duration_ns: int = 0
    strings: bool = False

    @classmethod
    def of(cls, config: Mapping[str, str]) -> Details:
        """From a recording's configuration. UsageError for what native recording has not."""
        level = config.get("level", "returns")
        if level not in ("calls", "returns", "args"):
            raise UsageError(f"level {level!r}: native programs are recorded at calls, returns or args")
        strings = config.get("strings") == "1"
        args = level == "args" or config.get("args") == "1" or strings
        made = cls(
            "returns" if level == "args" else level,
            args,
            int(config.get("stack_bytes") or 0),
            config.get("backtrace") == "1",
            int(config.get("min_duration_ns") or 0),
            strings,
        )
        if not 0 <= made.stack_bytes <= STACK_BYTES_MOST:
            raise UsageError(f"--stack-bytes {made.stack_bytes}: from 0 to {STACK_BYTES_MOST}")
        if not 0 <= made.min_duration_ns <= DURATION_MOST_NS:
            raise UsageError("--min-duration: up to one hour")
        if made.min_duration_ns and made.level == "calls":
            raise UsageError("--min-duration needs returns: with --level calls nobody sees how long a call lasts")
        return made

    @property
    def plan_flags(self) -> int:
        return (ENTRY_ONLY if self.level == "calls" else 0) | (ARGS if self.args else 0) | (BACKTRACE if self.backtrace else 0)

    @property
    def function_flags(self) -> int:
        any_detail = self.args or self.stack_bytes or self.backtrace
        return (FN_DETAILS if any_detail else 0) | (FN_TIMED if self.min_duration_ns else 0)


def config_of(args: Any) -> dict[str, str]:
    """The configuration that a command line's options make; {} when none is given."""
    said = {
        "args": "1" if args.args else "",
        "strings": "1" if args.strings else "",
        "stack_bytes": "" if args.stack_bytes is None else str(args.stack_bytes),
        "backtrace": "1" if args.backtrace else "",
        "min_duration_ns": "" if args.min_duration is None else str(args.min_duration),
    }
    return {key: value for key, value in said.items() if value}


def refuse(config: Mapping[str, str]) -> None:
    """UsageError for details of native calls where none are recorded."""
    names = {"args": "--args", "strings": "--strings", "stack_bytes": "--stack-bytes", "backtrace": "--backtrace", "min_duration_ns": "--min-duration"}
    given = [option for key, option in names.items() if config.get(key)]
    if given:
        raise UsageError(f"{', '.join(given)}: for compiled programs; the values of Python calls are recorded by --level args")
