"""How much an event matters. A module of its own: the compiled events and the plain Python around them share it."""

from enum import IntEnum


class Severity(IntEnum):
    """In JSON by its title: "Info", "Warning", "Error", "Critical"."""

    INFO = 0
    WARNING = 1
    ERROR = 2
    CRITICAL = 3

    Info = 0
    Warning = 1
    Error = 2
    Critical = 3
