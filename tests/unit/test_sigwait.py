"""Waiting for signals, also across a stop of the process.

FORBIDDEN: a signal that nobody sent; one that was sent and is not seen.
"""

import os
import signal
import subprocess
import sys

import pytest

from atf._core import sigwait

WAITS = """
import signal, sys, time
from atf._core import sigwait
def dirty(depth=0):
    return signal.sigtimedwait([signal.SIGUSR2], 0) if depth > 20 else dirty(depth + 1)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2])
wait = (lambda: sigwait.wait([signal.SIGUSR1], 0.005)) if sys.argv[1] == "ours" else (lambda: signal.sigtimedwait([signal.SIGUSR1], 0.005))
signal.raise_signal(signal.SIGUSR2); dirty()
print("ready", flush=True)
found = []
end = time.monotonic() + 60
while len(found) < 3 and time.monotonic() < end:
    if (got := wait()) is not None:
        found.append(tuple(got)[0])
        print(found[-1], flush=True)
"""


PENDING = """
import os, signal, subprocess, sys
from atf._core import sigwait
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD])
assert sigwait.wait([signal.SIGUSR1, signal.SIGUSR2], 0) is None
os.kill(os.getpid(), signal.SIGUSR2)
assert sigwait.wait([signal.SIGUSR1], 0.001) is None
assert sigwait.wait([signal.SIGUSR1, signal.SIGUSR2], 1) == (signal.SIGUSR2, True)
subprocess.run([sys.executable, "-c", ""])
assert sigwait.wait([signal.SIGCHLD], 1) == (signal.SIGCHLD, False)
"""


def test_a_signal_that_is_pending_and_none():
    subprocess.run([sys.executable, "-c", PENDING], check=True)
    for numbers, seconds in (([0], 0), ([99], 0), ([1], -1), ([1], float("nan"))):
        with pytest.raises(ValueError):
            sigwait.wait(numbers, seconds)


def test_a_stop_is_no_signal():
    """The interpreter's own function, for the record, makes one up here: run WAITS with another argument."""
    with subprocess.Popen([sys.executable, "-c", WAITS, "ours"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        for _ in range(3):
            for _ in range(5):
                child.send_signal(signal.SIGSTOP)
                os.waitpid(child.pid, os.WUNTRACED)
                signal.sigtimedwait([signal.SIGUSR2], 0.02)
                child.send_signal(signal.SIGCONT)
                signal.sigtimedwait([signal.SIGUSR2], 0.002)
            child.send_signal(signal.SIGUSR1)
            assert child.stdout.readline() == f"{int(signal.SIGUSR1)}\n"
        assert child.wait(30) == 0
