"""Which tests' traces are kept: the words that Playwright uses, asked per attempt."""

from __future__ import annotations

OFF = "off"
DEFAULT = "retain-on-failure"
MODES = {
    OFF: "record nothing",
    "on": "keep every test",
    DEFAULT: "keep every attempt that failed (what --atf alone means)",
    "retain-all-failures": "the same, and failures that were expected (xfail)",
    "on-first-retry": "keep the second attempt of a test, whatever becomes of it",
    "retain-on-failure-and-retries": "keep attempts that failed, and every retry",
}
FAILED, EXPECTED = "failed", "xfailed"


def keeps(mode: str, outcome: str, attempt: int) -> bool:
    """Whether an attempt's trace stays. outcome: passed, failed, xfailed or skipped; attempt: the first is 1."""
    failed = outcome == FAILED
    if mode == "on":
        return True
    if mode == DEFAULT:
        return failed
    if mode == "retain-all-failures":
        return failed or outcome == EXPECTED
    if mode == "on-first-retry":
        return attempt == 2
    if mode == "retain-on-failure-and-retries":
        return failed or attempt > 1
    return False
