"""The errors of atf, in the order of :mod:`atf._core.errors`."""

from atf._core.errors import (
    AtfError,
    FormatError,
    InjectionError,
    InvalidType,
    InvalidValue,
    NothingToTrace,
    OutputError,
    SegmentError,
    SessionError,
    TargetDenied,
    TargetError,
    TargetForeign,
    TargetGone,
    TraceIncomplete,
    UsageError,
)

__all__ = [
    "AtfError",
    "FormatError",
    "InjectionError",
    "InvalidType",
    "InvalidValue",
    "NothingToTrace",
    "OutputError",
    "SegmentError",
    "SessionError",
    "TargetDenied",
    "TargetError",
    "TargetForeign",
    "TargetGone",
    "TraceIncomplete",
    "UsageError",
]
