"""What a recorded call costs here. Run as a program it measures that, in a process of its own and with the interpreter that is recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USUAL = {"calls": 90.0, "returns": 60.0}  # ns of an event, where it cannot be measured
CALLS, ROUNDS = 5000, 9
WAIT_S = 10.0


def measure() -> dict[str, float]:
    """ns of an event: ``returns`` where calls and their ends are recorded, ``calls`` where calls alone are. The best of some rounds."""
    from atf._core import recorder, segment

    place: dict[str, Any] = {"__name__": "measured", "clock": time.perf_counter_ns, "rounds": range(CALLS)}
    exec("def f(): pass\ndef run():\n begun = clock()\n for _ in rounds: f()\n return clock() - begun", place)  # noqa: S102

    def best() -> int:
        return min(place["run"]() for _ in range(ROUNDS))

    made = segment.SegmentSet.create(options={"slots": 1, "detail_rings": 0}, drain_expected=False, level=recorder.LEVEL_RETURNS)
    made.remove()
    assert made.segments is not None
    best()
    bare = best()
    recorder.open_session(made.segments)
    recorder.start_hooks(recorder.LEVEL_RETURNS, ("measured",), ())
    returns = best()
    made.segments.set_level(recorder.LEVEL_CALLS)
    calls = best()
    recorder.stop_hooks()
    recorder.close_session()
    return {"calls": max(calls - bare, 1) / CALLS, "returns": max(returns - bare, 1) / CALLS / 2}


class Measurement:
    """A measurement that another process makes meanwhile. Until it is there, and where it fails, the usual figures hold."""

    def __init__(self, executable: str, paths: str):
        self.ns = dict(USUAL)
        self.measured = False
        self._begun = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        places = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))), *(part for part in paths.split("\x1f") if part)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        environment.pop("ATF_SESSION", None)
        try:
            self._process = subprocess.Popen(
                [executable, "-m", "atf.cost"], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError:
            pass

    def look(self) -> dict[str, float]:
        """ns of an event by level, as far as it is known now."""
        process = self._process
        if process is not None and (process.poll() is not None or time.monotonic() - self._begun > WAIT_S):
            try:
                found = json.loads(self._end())
                self.ns = {name: float(found[name]) for name in USUAL}
                self.measured = True
            except (ValueError, KeyError, TypeError):
                pass
        return self.ns

    def _end(self) -> bytes:
        process, self._process = self._process, None
        if process is None:
            return b""
        if process.poll() is None:
            process.kill()
        return process.communicate()[0]

    def close(self) -> None:
        """Nobody waits for it any more."""
        self._end()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure()))
