"""The errors of atf, in the order of :mod:`atf._core.errors`."""

from atf._core.errors import AtfError, FormatError, OutputError, SegmentError, SessionError, TraceIncomplete, UsageError

__all__ = ["AtfError", "FormatError", "OutputError", "SegmentError", "SessionError", "TraceIncomplete", "UsageError"]
