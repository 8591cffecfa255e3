"""The compiled programs that native_calls.py measures: how they are built, and a running one that answers phase by phase."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

SOURCES = Path(__file__).with_name("native")
OPTIMIZED = ("gcc", "-O2", "-D_GNU_SOURCE")
# How work.c alone is built for whom; everything else in the program is the same.
BUILDS = {
    "plain": (),
    "recorder": ("-finstrument-functions",),
    "-pg": ("-pg",),
    "-finstrument-functions": ("-finstrument-functions",),
    "-mfentry": ("-pg", "-mfentry"),
    "-fpatchable-function-entry": ("-fpatchable-function-entry=5",),
    "tracepoint": ("-DLTTNG", f"-I{SOURCES}"),
}


def compiler(*words: object) -> None:
    """gcc with these words; SystemExit with what it said when it fails."""
    done = subprocess.run([*OPTIMIZED, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"gcc {' '.join(map(str, words))}\n{done.stderr}")


class Programs:
    """Built when first asked for, into a directory."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.made: dict[str, Path] = {}

    def target(self, build: str) -> Path:
        """The program that calls work(), with work() built as BUILDS says."""
        if build not in self.made:
            name = self.place / f"target{len(self.made)}"
            work, main = name.with_suffix(".work.o"), name.with_suffix(".main.o")
            compiler("-c", *BUILDS[build], SOURCES / "work.c", "-o", work)
            compiler("-c", SOURCES / "target.c", "-o", main)
            more = {"recorder": [SOURCES / "recorder.c"], "tracepoint": [f"-I{SOURCES}", SOURCES / "tracepoint.c", "-llttng-ust", "-ldl"]}
            link = ["-pg"] * ("-pg" in BUILDS[build]) + more.get(build, [])
            compiler(work, main, *link, "-o", name, "-pthread")
            self.made[build] = name
        return self.made[build]

    def listener(self) -> Path:
        """The shared library with Frida's callbacks."""
        library = self.place / "listener.so"
        if not library.exists():
            compiler("-shared", "-fPIC", SOURCES / "listener.c", "-o", library)
        return library

    def many(self, functions: int) -> Path:
        """A program of that many functions and a few more; see many_source()."""
        program = self.place / f"many{functions}"
        if not program.exists():
            source = program.with_suffix(".c")
            source.write_text(many_source(functions))
            compiler("-g0", source, "-o", program, "-pthread")
        return program


def many_source(functions: int) -> str:
    """C: functions f0 … that each thread calls in turn, as many threads as the argument says, until standard input ends; without
    an argument every function is called once."""
    bodies = []
    for i in range(functions):
        shape = (f"return x * {i + 3} + {i};", f"return (x >> {i % 13 + 1}) ^ {i};", f"int y = x & {i + 1}; return y ? y * x : {i};")[i % 3]
        bodies.append(f'static __attribute__((noinline, noclone)) int f{i}(int x) {{ __asm__ volatile(""); {shape} }}')
    table = ", ".join(f"f{i}" for i in range(functions))
    return "\n".join(
        [
            "#include <pthread.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nstatic volatile int over, sink;",
            *bodies,
            f"static int (*const all[])(int) = {{{table}}};",
            # busy all the time, but with some hundred nanoseconds between two calls: it is the stop that is measured
            f"static void *run(void *a) {{ while (!over) for (int i = 0; i < {functions} && !over; i++) "
            "{ sink = all[i](i); for (volatile int j = 0; j < 200; j++) { } } return a; }",
            "int main(int argc, char **argv) {",
            "    pthread_t t[16]; char c; int n = argc > 1 ? atoi(argv[1]) : 0;",
            f"    if (n == 0) for (int i = 0; i < {functions}; i++) sink = all[i](i);",
            "    for (int i = 0; i < n && i < 16; i++) pthread_create(&t[i], 0, run, 0);",
            '    puts("ready"); fflush(stdout);',
            "    while (n && read(0, &c, 1) > 0) { }",
            "    over = 1;",
            "    for (int i = 0; i < n && i < 16; i++) pthread_join(t[i], 0);",
            "    return 0;\n}\n",
        ]
    )


class Target:
    """The program of target.c, started by a command that passes standard input and output on. Use it in a with statement."""

    def __init__(self, command: Sequence[object], environment: dict[str, str] | None = None) -> None:
        self.command = [str(word) for word in command]
        self.process = subprocess.Popen(
            self.command,
            cwd=Path(self.command[-1]).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.calls = 0
        self.pid, self.address = 0, 0

    def __enter__(self) -> Target:
        found = self._answer()
        self.pid, self.address = found["pid"], found["work"]
        return self

    def _answer(self) -> dict:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{' '.join(self.command)} ended with status {self.process.wait()}:\n{self.process.stderr.read()}")
        return json.loads(line)

    def phase(self, threads: int, calls: int, batches: int) -> dict:
        """Let it run: ns (a call, one number a batch and thread), wall_ns, recorded. SystemExit when its sum is not right."""
        assert self.process.stdin
        self.process.stdin.write(f"{threads} {calls} {batches}\n")
        self.process.stdin.flush()
        found = self._answer()
        right = threads * (batches + 1) * sum_of(calls)
        if found["sum"] != right:
            raise SystemExit(f"{' '.join(self.command)} added up to {found['sum']}, not {right}")
        self.calls += found["calls"]
        return found

    def abandon(self) -> None:
        """End it here and now: how it would end does not matter."""
        self.process.kill()
        self.process.wait()

    def __exit__(self, kind: object, *rest: object) -> None:
        abandoned = self.process.poll() == -signal.SIGKILL
        if kind is not None:
            self.process.kill()
        try:
            _, said = self.process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        if kind is None and self.process.returncode and not abandoned:
            raise SystemExit(f"{' '.join(self.command)} ended with status {self.process.returncode}:\n{said}")


def sum_of(calls: int) -> int:
    """What work() of the numbers below `calls`, taken modulo 65,536, adds up to."""
    whole, rest = divmod(calls, 65536)
    numbers = whole * (65536 * 65535 // 2) + rest * (rest - 1) // 2
    return 3 * numbers + calls
