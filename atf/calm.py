"""numpy for a recorder. Its library of linear algebra starts threads when it is imported, and those would take the signals that the
recorder blocks in order to fetch them: they are started with every signal blocked. Import this before anything that imports numpy."""

from __future__ import annotations

import signal

_before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
try:
    import numpy as np  # noqa: F401
finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, _before)
