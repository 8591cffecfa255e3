"""What native_calls.py measures beside the call itself: to files end to end, hooking many functions, entering a running process,
and how many functions of well-known programs are hooked."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

from _native_programs import Programs, Target
from _native_tools import Wrong, environment, read_back, record_words
from drain import plain_write

# What is recorded of each program, as options of `atf record`, and a command that ends at once.
WELL_KNOWN = {
    "sqlite3": (("--module", "main", "--module", "libsqlite3*"), ("sqlite3", ":memory:", "select 1")),
    "git": ((), ("git", "--version")),
    "redis-server": ((), ("redis-server", "--version")),
}


def cpu_ns(pid: int) -> int:
    """CPU time of all threads of a process."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def native_of(out: Path) -> dict:
    """What the manifest of the one process recorded below a directory says of hooks."""
    (manifest,) = out.glob("session_*/pid_*/manifest.json")
    return json.loads(manifest.read_text())["native"]


class Whole:
    def __init__(self, programs: Programs, scratch: Path) -> None:
        self.programs, self.out = programs, scratch / "out"

    def files(self, calls: int, batches: int) -> dict:
        """One producer through rings and drain into files, nothing lost: seconds of the producer, CPU of both, events."""
        try:
            # without spare memory what is in the rings at the end is less than a hundredth
            words = record_words(self.out, "--include", "work", "--burst-size", "0")
            with Target([*words, self.programs.target("plain")], environment()) as target:
                target.phase(1, calls, 1)
                before = cpu_ns(target.process.pid)
                found = target.phase(1, calls, batches)
                drain = cpu_ns(target.process.pid) - before
            events, written = 2 * found["calls"], read_back(self.out)
            if (written["calls"], written["events"], written["lost"]) != (target.calls, 2 * target.calls, 0):
                raise Wrong(f"to files: {written} of {target.calls} calls")
            return {
                "events": events,
                "seconds": found["wall_ns"] / 1e9,
                "producer_ns": sum(found["ns"]) / len(found["ns"]) / 2,
                "drain_ns": drain / events,
            }
        finally:
            shutil.rmtree(self.out, ignore_errors=True)

    def floor(self, events: int) -> dict:
        """A plain write() of as many bytes to the same place."""
        self.out.mkdir()
        try:
            return plain_write(self.out, events)
        finally:
            shutil.rmtree(self.out)

    def hooking(self, functions: int) -> dict:
        """A program of many functions from its start to its end: seconds with and without atf, setup of the agent alone."""
        program = self.programs.many(functions)
        begin = time.perf_counter()
        subprocess.run([program], stdout=subprocess.DEVNULL, check=True)
        plain = time.perf_counter() - begin
        try:
            begin = time.perf_counter()
            subprocess.run([*record_words(self.out), program], stdout=subprocess.DEVNULL, env=environment(), check=True)
            whole, native, calls = time.perf_counter() - begin, native_of(self.out), read_back(self.out)["calls"]
        finally:
            shutil.rmtree(self.out, ignore_errors=True)
        if native["hooked"] < functions or calls < functions:
            raise Wrong(f"of {functions} functions {native['hooked']} were hooked and {calls} calls recorded")
        return {"plain_s": plain, "whole_s": whole, "setup_s": native["setup_ns"] / 1e9, "hooked": native["hooked"]}

    def attach(self, functions: int, times: int) -> list[dict]:
        """Enters one running process, with two busy threads, so often: how long its threads stood each time, in milliseconds."""
        from atf.native.attach import Attachment

        found = []
        words = [self.programs.many(functions), "2"]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdin and process.stdout
            process.stdout.readline()
            for _ in range(times):
                begin = time.perf_counter()
                attachment = Attachment(process.pid, str(self.out), {})
                state: dict = {}

                def tick(attached, state: dict = state) -> None:
                    plan = attached.process.plan
                    state.update(stop_ms=plan.value("stop_ns") / 1e6, stopped=plan.value("threads_stopped"))
                    attached.stopping = "duration"

                attachment.run(None, tick)
                seconds = time.perf_counter() - begin
                native, calls = native_of(self.out), read_back(self.out)["events"]
                shutil.rmtree(self.out)
                if native["hooked"] < functions or not calls or state["stopped"] < 2:
                    raise Wrong(f"attach: {native['hooked']} of {functions} hooked, {calls} events, {state['stopped']} threads stopped")
                found.append({**state, "setup_ms": native["setup_ns"] / 1e6, "seconds": seconds, "leave_ms": native["stop_ns"] / 1e6})
            process.stdin.close()
            if process.wait(60):
                raise Wrong(f"the program that was entered {times} times ended with status {process.returncode}")
            return found
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(self.out, ignore_errors=True)

    def share(self, name: str) -> dict:
        """Functions of a program and how many were hooked, and why the others were not."""
        options, command = WELL_KNOWN[name]
        try:
            words = record_words(self.out, *options)
            subprocess.run([*words, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment(), check=True)
            native = native_of(self.out)
        finally:
            shutil.rmtree(self.out, ignore_errors=True)
        why = Counter(reason for _, _, reason in native["not_hooked"])
        if sum(why.values()) != native["refused"] or not native["hooked"]:
            raise Wrong(f"{name}: {native['hooked']} functions hooked, {native['refused']} not, {sum(why.values())} reasons")
        return {"hooked": native["hooked"], "refused": native["refused"], "why": dict(why.most_common())}
