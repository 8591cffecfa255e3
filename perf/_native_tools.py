"""What native_calls.py compares on one function: atf and its peers, each as one run that times, and proves what it recorded.

Every run is a process of its own that does the same work (perf/native/target.c). A run returns nanoseconds of the calling thread's
CPU time a call, and ends the benchmark when its recorder did not keep every call.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy
from _bench import ROOT, Spread
from _native_programs import Programs, Target

CALL, RETURN = 1, 2  # kinds of record
UFTRACE_BUILDS = ("-pg", "-finstrument-functions", "-mfentry", "-fpatchable-function-entry")
EVENT = "atf_perf:call"


class Wrong(Exception):
    """A recorder did not do what it was measured for."""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def record_words(out: Path, *options: str) -> list[str]:
    """`atf record` as a user types it; nothing may be lost."""
    return [sys.executable, "-m", "atf", "record", "--out", str(out), "--quiet", "--policy", "block", *options, "--"]


def read_back(out: Path) -> dict:
    """calls, events and losses of the one recording below a directory; Wrong when it is not complete."""
    import atf

    with atf.open(out) as trace:
        info = trace.info
        if info["status"] != "complete":
            raise Wrong(f"a recording is {info['status']}: {info['recovered']['problems']}")
        return {"calls": kinds(trace)[CALL], "events": info["events"], "lost": sum(info["lost"].values())}


def kinds(trace) -> Counter[int]:
    """How many records there are of each kind."""
    counts: Counter[int] = Counter()
    for thread in trace.threads:
        counts.update(dict(enumerate(numpy.bincount(thread.events["event_kind"]).tolist())))
    return counts


class Tools:
    """The recorders. calls, batches: of one thread in one run; one more batch warms up."""

    def __init__(self, programs: Programs, scratch: Path, calls: int, batches: int) -> None:
        self.programs, self.scratch, self.calls, self.batches = programs, scratch, calls, batches
        self.numbers = itertools.count()
        self.daemon: Daemon | None = None

    def place(self) -> Path:
        path = self.scratch / f"run{next(self.numbers)}"
        path.mkdir()
        return path

    def untraced(self, threads: int = 1) -> float:
        with Target([self.programs.target("plain")]) as target:
            return self.time(target, threads)

    def time(self, target: Target, threads: int = 1) -> float:
        """Median over batches and threads."""
        return Spread.of(target.phase(threads, self.calls, self.batches)["ns"]).median

    def atf(self, threads: int = 1, level: str = "returns") -> float:
        out = self.place()
        try:
            words = record_words(out, "--include", "work", "--level", level)
            with Target([*words, self.programs.target("plain")], environment()) as target:
                ns = self.time(target, threads)
            self.proved(read_back(out), target.calls, 2 if level == "returns" else 1)
            return ns
        finally:
            shutil.rmtree(out)

    def proved(self, found: dict, calls: int, each: int) -> None:
        if (found["calls"], found["events"], found["lost"]) != (calls, each * calls, 0):
            raise Wrong(f"atf: {found} of {calls} calls with {each} records each")

    def rings(self, threads: int = 1, level: str = "returns") -> float:
        """Into the rings in shared memory, nobody drains them while the clock runs and the oldest records are overwritten."""
        import atf
        from atf._core import segment
        from atf.gather import Gatherer
        from atf.native.details import Details
        from atf.native.injector import agent_file
        from atf.native.modules import choose_modules
        from atf.native.plan import Plan

        program, out = self.programs.target("plain"), self.place()
        segments = segment.SegmentSet.create(options={}, policy="drop-oldest")
        try:
            plan = Plan(str(out / "plan"), choose_modules(str(program), [], ["main"], ["work"], []), segments.ids, details=Details(level=level))
            with Target([program], {**os.environ, "LD_PRELOAD": agent_file(), "ATF_AGENT": plan.path}) as target:
                ns = self.time(target, threads)
                gatherer = Gatherer(str(out), None)
                taken = gatherer.take_in({"pid": target.pid, "start": segment.process_start(target.pid)}, segments)
                gatherer.live["it"] = taken
                gatherer.stop()
                gatherer.close()
            found = gatherer.totals()
            with atf.open(out) as trace:
                kept = kinds(trace)
            right = target.calls * (1 + (level == "returns"))
            written = kept[CALL] + kept[RETURN] + sum(found["lost"].values())
            if written != right or not kept[CALL]:
                raise Wrong(f"atf, rings only: {found['events']} events and {found['lost']} overwritten of {right}")
            return ns
        finally:
            segments.remove()
            shutil.rmtree(out)

    def detached(self) -> float:
        """What a call costs after atf was in the process and left it, less what it cost before."""
        from atf.native.attach import Attachment

        out = self.place()
        try:
            with Target([self.programs.target("plain")]) as target:
                before = self.time(target)
                attachment = Attachment(target.pid, str(out), {"policy": "block"}, include=["work"])
                calls = target.calls

                def tick(attached) -> None:
                    target.phase(1, self.calls, 1)
                    attached.stopping = "duration"

                attachment.run(None, tick)
                traced = target.calls - calls
                after = self.time(target)
            self.proved(read_back(out), traced, 2)
            if not traced:
                raise Wrong("atf attach recorded nothing")
            return after - before
        finally:
            shutil.rmtree(out)

    def recompiled(self) -> float:
        with Target([self.programs.target("recorder")]) as target:
            found = target.phase(1, self.calls, self.batches)
        if found["recorded"] != 2 * target.calls:
            raise Wrong(f"the recompiled recorder wrote {found['recorded']} records for {target.calls} calls")
        return Spread.of(found["ns"]).median

    def uftrace(self, build: str) -> float:
        out = self.place()
        try:
            words = ["uftrace", "record", "--no-libcall", "--no-event", "-d", out / "data"]
            words += ["-P", "work"] * (build == "-fpatchable-function-entry")
            with Target([*words, self.programs.target(build)]) as target:
                ns = self.time(target)
            done = subprocess.run(["uftrace", "report", "--no-pager", "-d", out / "data"], capture_output=True, text=True, check=True)
            counts = re.findall(r"(\d+)\s+work\b", done.stdout)
            if counts != [str(target.calls)]:
                raise Wrong(f"uftrace {build}: {counts or done.stdout} calls of {target.calls}")
            return ns
        finally:
            shutil.rmtree(out)

    def lttng(self) -> float:
        """One event a call, into the default channel: discards when it is full, and tells."""
        if self.daemon is None:
            self.daemon = Daemon(self.scratch)
        run, out, name = self.daemon.run, self.place(), f"atf-perf-{os.getpid()}"
        try:
            run("create", name, f"--output={out}")
            try:
                run("enable-event", "--session", name, "--userspace", EVENT)
                run("start", name)
                with Target([self.programs.target("tracepoint")], self.daemon.environment) as target:
                    ns = self.time(target)
                run("stop", name)
                discarded = sum(map(int, re.findall(r"Discarded events: (\d+)", run("list", name))))
            finally:
                run("destroy", name)
            words = ["babeltrace2", out, "--component=sink.utils.counter", "--params=step=+0"]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            counts = list(map(int, re.findall(r"(\d+) Event messages?", done.stdout)))
            if not counts or counts[-1] + discarded != target.calls:
                raise Wrong(f"LTTng: {counts[-1:]} events and {discarded} discarded of {target.calls}: {done.stdout}")
            return ns
        finally:
            shutil.rmtree(out)

    def frida(self) -> float:
        """Interceptor with callbacks of native code that do nothing; afterwards with ones that count."""
        import frida

        with Target([self.programs.target("plain")]) as target:
            session = frida.attach(target.pid)
            script = session.create_script(INTERCEPTOR % (str(self.programs.listener()), hex(target.address)))
            script.load()
            ns = self.time(target)
            script.exports_sync.count()
            calls = target.phase(1, 1000, 1)["calls"]
            counted = script.exports_sync.counted()
            target.abandon()  # with Frida inside: a process that it leaves may hang at its end
        if counted != [calls, calls]:
            raise Wrong(f"Frida's Interceptor saw {counted} entries and returns of {calls} calls")
        return ns

    def close(self) -> None:
        if self.daemon is not None:
            self.daemon.close()


INTERCEPTOR = """
const library = Module.load('%s'), work = ptr('%s');
const named = name => library.getExportByName(name);
let listener = Interceptor.attach(work, { onEnter: named('nothing'), onLeave: named('nothing') });
Interceptor.flush();
rpc.exports = {
    count() {
        listener.detach();
        Interceptor.flush();
        listener = Interceptor.attach(work, { onEnter: named('entered'), onLeave: named('left') });
        Interceptor.flush();
    },
    counted() { return ['atf_perf_entered', 'atf_perf_left'].map(name => named(name).readS64().toNumber()); },
};
"""


class Daemon:
    """LTTng's session daemon, with a home of its own; as root there is one place for all, and one that runs already is used."""

    def __init__(self, scratch: Path) -> None:
        home = scratch / "lttng"
        home.mkdir()
        self.environment = {**os.environ, "LTTNG_HOME": str(home)}
        words = ["lttng-sessiond", "--no-kernel"]
        self.process = subprocess.Popen(words, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while subprocess.run(["lttng", "--no-sessiond", "list"], env=self.environment, capture_output=True, check=False).returncode:
            if time.monotonic() > until:
                raise Wrong("lttng-sessiond does not answer")
            time.sleep(0.05)

    def run(self, *words: str) -> str:
        done = subprocess.run(
            ["lttng", "--no-sessiond", *words], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise Wrong(f"lttng {' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)


def missing() -> dict[str, str]:
    """What each peer that is not here needs: case -> reason."""
    import importlib.util

    found = {}
    if importlib.util.find_spec("frida") is None:
        found["frida"] = "pip install frida"
    if shutil.which("uftrace") is None:
        found["uftrace"] = "apt-get install uftrace"
    words = ["gcc", "-E", "-x", "c", "-", "-o", os.devnull]
    header = subprocess.run(words, input="#include <lttng/tracepoint.h>\n", text=True, capture_output=True, check=False)
    if header.returncode or not all(map(shutil.which, ("lttng-sessiond", "lttng", "babeltrace2"))):
        found["lttng"] = "apt-get install lttng-tools liblttng-ust-dev babeltrace2"
    return found
