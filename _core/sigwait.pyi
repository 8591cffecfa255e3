"""Waits for signals that are blocked, and tells where one came from."""

from collections.abc import Iterable

def wait(numbers: Iterable[int], seconds: float) -> tuple[int, bool] | None:
    """The next of these signals (blocked by the caller) as (number, sent); sent: by a process, not by the kernel or a
    terminal. None: none came in time, or the wait was cut short. OSError when the system refuses.
    """
