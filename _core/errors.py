"""What can go wrong, as types. Every message says what happened and what to do."""


class AtfError(Exception):
    """The root of all errors that atf raises itself."""


class UsageError(AtfError):
    """An argument or option that cannot be used."""


class InvalidValue(UsageError, ValueError):
    """A value that cannot be: empty, negative, out of range, or not what its text has to look like."""


class InvalidType(UsageError, TypeError):
    """A value of a type that is not taken here."""


class SegmentError(AtfError):
    """Shared memory could not be had: no permission, a limit, or it is gone."""


class OutputError(AtfError):
    """The place for the trace cannot be written."""


class SessionError(AtfError):
    """The session is not in a state for this (already recording, not recording, stale)."""


class FormatError(AtfError):
    """A file is not an ATF v2 file, is of a version this release does not know, or is beyond recovery."""


class TraceIncomplete(AtfError):
    """The question needs records that were lost or never written."""


class TargetError(AtfError):
    """A program or process cannot be traced natively."""


class TargetGone(TargetError):
    """There is no such program or process, or it ended meanwhile."""


class TargetDenied(TargetError):
    """Tracing that process is not permitted."""


class TargetForeign(TargetError):
    """A program of another kind: 32 bits, another processor, static, or no program at all."""


class NothingToTrace(TargetError):
    """No function fits what was asked for."""


class InjectionError(TargetError):
    """The agent could not be brought in, or refused to start."""
