"""In a recorded Python process: the native agent comes in beside the hooks, before the first event.

Runs in the program's first milliseconds: imports nothing that a bare interpreter does not have.
"""

from __future__ import annotations

import os
import time

from atf import runtime
from atf._core import recorder
from atf._core.errors import InjectionError

WAIT_S = 60.0  # a recorder that chooses among many functions takes a second or two


def announcement() -> dict[str, str]:
    """What the recorder must know to write this process's plan."""
    import sys

    return {"beside": "1", "search": "\x1f".join(sys.path), "directory_now": os.getcwd()}


def join(file: str, config: dict[str, str]) -> bool:
    """Wait for the plan that answers an announcement, and start the agent. False: nothing is recorded natively, the recorder knows why.

    InjectionError when the agent does not start.
    """
    stem = file.removesuffix(".process")
    until = time.monotonic() + WAIT_S
    while not os.path.exists(stem + ".plan"):
        if os.path.exists(stem + ".alone") or not runtime.recorder_alive(config):
            return False
        if time.monotonic() > until:
            raise InjectionError(f"the recorder wrote no plan within {WAIT_S:.0f} s: only Python is recorded")
        time.sleep(0.001)
    recorder.join(os.fsencode(config["agent"]), os.fsencode(stem + ".plan"))
    return True
