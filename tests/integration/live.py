"""Runs programs with and without ``atf record``, as a user would, and looks at what they left."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import atf
from accounts import check_manifests

ROOT = pathlib.Path(atf.__file__).resolve().parent.parent


@dataclass
class Ran:
    """One finished program: its exit status, its output, and where its session went."""

    status: int
    out: str
    err: str
    root: pathlib.Path

    @property
    def path(self):
        (session,) = self.root.glob("session_*")
        return session

    def trace(self):
        return atf.open(self.path)

    @property
    def summary(self):
        """The JSON document on standard error of ``atf record --json``."""
        return json.loads(self.err.strip().splitlines()[-1])


class Bench:
    """A directory, a runtime directory of its own, and programs in it."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.root = self.path / "traces"
        self.runtime = self.path / "run"
        self.runtime.mkdir()
        self.environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "ATF_SESSION")}
        self.environment.update(PYTHONPATH=str(ROOT), XDG_RUNTIME_DIR=str(self.runtime), PYTHONDONTWRITEBYTECODE="1")

    def write(self, source, name="program.py"):
        path = self.path / name
        path.write_text(textwrap.dedent(source))
        return str(path)

    def plain(self, *command, **options):
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=60, **options)
        return Ran(done.returncode, done.stdout, done.stderr, self.root)

    def command(self, *words, options=()):
        return [sys.executable, "-m", "atf", "record", "--out", str(self.root), *options, "--", *words]

    def record(self, *words, options=("--quiet",), **more):
        """Run a command line under ``atf record`` to its end."""
        return self.plain(*self.command(*words, options=options), **more)

    def python(self, source, *arguments, options=("--quiet",), **more):
        """Run a program's source under ``atf record`` to its end."""
        return self.record(sys.executable, self.write(source), *arguments, options=options, **more)

    def begin(self, source, *arguments, options=("--quiet",), **more):
        """Start a program under ``atf record``: a Popen with pipes."""
        words = self.command(sys.executable, self.write(source), *arguments, options=options)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        return subprocess.Popen(words, cwd=self.path, env=self.environment, text=True, **pipes)

    def atf(self, *words):
        return self.plain(sys.executable, "-m", "atf", *words)

    def program_pid(self):
        """Of the first recorded process, as soon as it has announced itself."""
        return int(pathlib.Path(wait_for(lambda: next(self.runtime.glob("atf/*/*.process"), None))).name.partition("-")[0])

    def creators(self):
        """Processes that are recorded below this bench's directory."""
        return {int(path.name.split("_")[1]) for path in self.root.glob("session_*/pid_*")}

    def segments(self):
        """Segments of this bench's sessions that still exist: what their announcements name."""
        found = set()
        for file in self.runtime.glob("atf/*/*.process"):
            with contextlib.suppress(FileNotFoundError):
                line = next((line for line in file.read_text().splitlines() if line.startswith("segments=")), "segments=")
                found |= {int(part) for part in line.partition("=")[2].split(",") if part}
        return found & existing_segments()


def existing_segments(creators=None):
    """Ids of the System V segments of this machine; creators: only those that one of these processes made."""
    with open("/proc/sysvipc/shm") as file:
        rows = [line.split() for line in file][1:]
    return {int(row[1]) for row in rows if creators is None or int(row[4]) in creators}


def wait_for(condition, seconds=20.0):
    """The first true value of condition(); an AssertionError when it stays false."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s in vain")


def calls(trace, function, **filters):
    """How often a function was called in a trace."""
    return len(trace.events(function=function, kind="call", **filters))


def produced(trace):
    """Records written plus records lost, from the files alone: what the program's threads numbered."""
    total = 0
    for thread in trace.threads:
        gaps = thread.events["event_kind"] == 8
        total += len(thread.events) - int(gaps.sum()) + int(thread.events["function_id"][gaps].sum())
    return total


@contextlib.contextmanager
def benched(tmp_path):
    """A Bench; nothing of it may be left when it is closed: no segment, no session in its runtime directory."""
    bench = Bench(tmp_path)
    yield bench
    check_manifests(bench.path)
    wait_for(lambda: not list(bench.runtime.glob("atf/*")) and not existing_segments(bench.creators()), 10)
