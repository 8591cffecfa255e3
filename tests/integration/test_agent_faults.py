"""Programs that die while they record; recorders that die; plans and segments that are damaged; kernels that refuse."""

import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess

import pytest
import sysv_ipc
from agent_bench import HEADER, LIBRARY, LIVE, Bench
from agent_check import check, check_counts, plainly
from agent_kill import kill_once, moments
from agent_launch import COUNTS, LAUNCH, OBEYS
from agent_programs import HEAD
from agent_programs import C as PROGRAMS
from agent_shapes import TREE, C

from atf.native.plan import OURS, sealed

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("nm")), reason="no compiler"),
]
E_FILE, E_SEGMENTS, E_BUSY = "1", "2", "6"


@pytest.fixture
def bench(tmp_path):
    yield Bench(tmp_path)
    shutil.rmtree(tmp_path, ignore_errors=True)  # millions of records


# ---------------------------------------------------------------- the program dies
def test_it_leaves_in_the_middle(bench):
    """By _exit, abort, a fault, SIGKILL, exit, pthread_exit: the same end, and every record that was made."""
    program = bench.build(TREE + C["leaves_in_the_middle"])
    for how, status in enumerate((9, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL, 4, 0)):
        ran = check(bench, program, how)
        assert ran.status == status
        with ran.trace() as trace:
            assert trace.check() == []


@pytest.mark.parametrize("threads", [1, 3])
def test_killed_at_any_moment(bench, threads):
    program = bench.build(COUNTS)
    modules = bench.modules(program, only={"work", "counts"})
    assert sum(kill_once(bench, program, modules, n, threads, after)[0] for n, after in enumerate(moments(threads, 3))) > 100


def test_killed_while_the_drain_lags(bench):
    program = bench.build(COUNTS)
    modules = bench.modules(program, only={"work", "counts"})
    assert sum(kill_once(bench, program, modules, n, 3, after, lagging=True)[1] for n, after in enumerate(moments(7, 2, 0.05, 0.1))) > 0


# ---------------------------------------------------------------- the recorder dies
class Obeys:
    """A program that starts and stops the agent as it is told."""

    def __init__(self, program):
        self.process = subprocess.Popen([program], env={**os.environ, "LD_PRELOAD": str(LIBRARY)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, order):
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer, f"no answer to {order!r}: the program ended with {self.process.wait(10)}"
        return answer

    def close(self):
        assert self.process.communicate("end\n", timeout=20)[0] == ""
        assert self.process.returncode == 0


@pytest.fixture
def obeys(bench):
    program = bench.build(OBEYS)
    with contextlib.closing(Obeys(program)) as talk:
        talk.modules = bench.modules(program, only={"work", "two"})
        talk.right = talk.ask("work")
        yield talk


def test_a_recording_whose_recorder_was_killed_is_taken_over(bench, obeys):
    """The earlier one's rings stay as they are for whoever saves them; while its recorder lives nobody else comes in."""
    dead = subprocess.Popen(["true"])
    with bench.session(obeys.modules, LIVE) as (first, early, take_in, gatherer):
        take_in(obeys.process.pid)
        assert obeys.ask(f"start {early.path}") == "0"
        assert obeys.ask("work") == obeys.right
        other = Bench(bench.path / "other")
        other.path.mkdir()
        with other.session(obeys.modules, LIVE) as (_, late, take_in_too, gatherer_too):
            take_in_too(obeys.process.pid)
            assert obeys.ask(f"start {late.path}") == E_BUSY
            assert late.header()["state"] == "failed"
            assert obeys.ask("work") == obeys.right
            gatherer.drain.join()  # silent, as a dead one is
            first.segments.drained_by(dead.pid)  # a zombie
            assert obeys.ask(f"start {late.path}") == "0"
            dead.wait()
            assert (early.header()["state"], late.header()["state"]) == ("detached", "active")
            assert obeys.ask("work") == obeys.right
            assert obeys.ask("stop") == "0"
            gatherer_too.stop()
            assert other.taken.source.totals["events"] == 6000
        gatherer.stop()
        assert bench.taken.source.totals["events"] == 12000


def test_segments_that_are_removed_under_the_agent(bench, obeys):
    with bench.session(obeys.modules, LIVE) as (segments, plan, take_in, gatherer):
        take_in(obeys.process.pid)
        assert obeys.ask(f"start {plan.path}") == "0"
        segments.remove()
        assert obeys.ask("work") == obeys.right
        gatherer.stop()
        assert bench.taken.source.totals["events"] == 6000
    with bench.session(obeys.modules, LIVE) as (_, plan, take_in, gatherer):  # nobody ended the first
        take_in(obeys.process.pid)
        assert obeys.ask(f"start {plan.path}") == "0"
        assert obeys.ask("work") == obeys.right
        assert obeys.ask("stop") == "0"
        gatherer.stop()
        assert bench.taken.source.totals["events"] == 6000


# ---------------------------------------------------------------- damaged plans, damaged segments
def agents_own(content, at):
    """Whether a byte of a plan is the agent's to write: what stands there before does not matter."""
    values = HEADER.unpack_from(content)
    functions_at, texts_at = values[10], values[11]
    if at < HEADER.size:
        return at >= OURS[0]
    if at < functions_at:
        return (at - HEADER.size) % 64 >= OURS[1]
    return at < texts_at and (at - functions_at) % 32 >= OURS[2]


def damaged(content, random):
    """Content that a controller cannot have written."""
    kind = random.randrange(6)
    if kind == 0:
        return content[: random.randrange(len(content))]
    if kind == 1:
        return content + random.randbytes(random.choice((1, 8, 4096)))
    if kind == 2:
        begin, size = random.randrange(len(content)), random.choice((4, 8, 64))
        return content[:begin] + random.randbytes(size) + content[begin + size :]
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8))):
        at = random.randrange(HEADER.size if kind == 3 else len(content))
        changed[at] = random.choice((0, 0xFF, changed[at] ^ 1 << random.randrange(8)))
    return bytes(changed)


def test_damaged_plans_are_refused(bench, obeys):
    """FORBIDDEN: a crash, or a function hooked by a plan with one wrong word."""
    chance = random.Random(20)
    refused = 0
    with bench.session(obeys.modules, LIVE) as (_, plan, take_in, gatherer):
        take_in(obeys.process.pid)
        with open(plan.path, "rb") as file:
            content = file.read()
        path = bench.path / "damaged"
        for n in range(500):
            mutant = damaged(content, chance)
            same = len(mutant) == len(content) and all(a == b or agents_own(content, at) for at, (a, b) in enumerate(zip(mutant, content)))
            path.write_bytes(mutant)
            answer = obeys.ask(f"start {path}")
            assert answer == ("0" if same else E_FILE), n
            refused += not same
            if same:
                assert obeys.ask("stop") == "0"
            if n % 50 == 0:
                assert obeys.ask("work") == obeys.right
        gatherer.stop()
    assert refused > 300


def test_damaged_plans_at_the_start_of_a_program(bench):
    program = bench.build("int f(int x) { asm volatile(\"\"); return x; }\nint main(void) { return f(7); }")
    chance = random.Random(21)
    path = bench.path / "damaged"
    with bench.session(bench.modules(program)) as (_, plan, take_in, gatherer):
        take_in(os.getpid())
        with open(plan.path, "rb") as file:
            content = file.read()
        for _ in range(30):
            path.write_bytes(damaged(content, chance))
            done = subprocess.run([program], env={**os.environ, "LD_PRELOAD": str(LIBRARY), "ATF_AGENT": str(path)}, capture_output=True, timeout=20)
            assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
        gatherer.stop()


def test_a_whole_plan_with_impossible_places(bench, obeys):
    """Its sum is right, but the functions lie elsewhere: each is refused by itself."""
    with open(f"/proc/{obeys.process.pid}/maps") as maps:
        base = int(next(line for line in maps if line.rstrip().endswith("/program")).split("-")[0], 16)
    for vaddr in (0, 5, 0x7FFFFFFFFFF0, (1 << 64) - 2, (1 << 64) - 3 - base, (1 << 64) - 1 - base):
        with bench.session(obeys.modules, LIVE) as (_, plan, take_in, gatherer):
            take_in(obeys.process.pid)
            with open(plan.path, "rb") as file:
                content = bytearray(file.read())
            struct.pack_into("<Q", content, plan.functions_at, vaddr)
            with open(plan.path, "wb") as file:
                file.write(sealed(bytes(content[:-8])))
            assert obeys.ask(f"start {plan.path}") == "0"
            assert list(plan.refused().values()) == ["bounds"]
            assert obeys.ask("work") == obeys.right
            assert obeys.ask("stop") == "0"
            gatherer.stop()


def test_damaged_segments_are_refused(bench, obeys):
    """FORBIDDEN: an offset that leads outside of a segment is followed."""
    chance = random.Random(22)
    refused = 0
    with bench.session(obeys.modules, LIVE, started=False, slots=4, index_bytes=4096) as (segments, plan, _, _):
        memories = [sysv_ipc.attach(identifier) for identifier in segments.ids]
        whole = [memory.read(min(memory.size, 60_000)) for memory in memories]
        with open(plan.path, "rb") as file:
            content = file.read()
        fields = [(0, at) for at in (0, 4, 6, 24)] + [(1, at) for at in (0, 4, 6, 24, 32, 36, 40, 44, 48, 56, 64, 72)]
        first = struct.unpack_from("<Q", whole[1], 72)[0]
        fields += [(1, first + 640 + 256 * ring + field) for ring in range(4) for field in (24, 32)]  # offset, capacity
        fields += [(2, at) for at in (0, 4, 6, 24, 32, 40)]
        for which, at in fields:
            for value in (1 << 63, (1 << 64) - 1, chance.getrandbits(64)):
                memories[which].write(struct.pack("<Q", value), at)
                with open(plan.path, "wb") as file:
                    file.write(content)
                answer = obeys.ask(f"start {plan.path}")
                refused += answer == E_SEGMENTS
                assert answer in ("0", E_SEGMENTS), (which, at, hex(value))
                memories[which].write(whole[which][at : at + 8], at)
                if answer == "0":
                    assert obeys.ask("stop") == "0", (which, at, hex(value))
        assert obeys.ask("work") == obeys.right
        for memory in memories:
            memory.detach()
    assert refused > 50


# ---------------------------------------------------------------- what a kernel refuses
def refuses_rseq(bench, program, *arguments, only=None):
    launch = bench.build(LAUNCH, "launch")
    with bench.session(bench.modules(program, only)) as (_, plan, take_in, gatherer):
        command = [str(part) for part in (launch, LIBRARY, plan.path, program, *arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        take_in(process.pid)
        out, err = process.communicate(timeout=60)
        if process.returncode == 77:
            pytest.skip("no seccomp filter is permitted here")
        while gatherer.live:
            gatherer.poll()
    return bench.finished(process.returncode, out, err, plan)


@pytest.mark.parametrize("name", ["signals", "coroutines", "longjmp"])
def test_a_sandbox_that_forbids_rseq(bench, name):
    """Neither the C library nor the agent gets a sequence: everything goes the slow way, and as right."""
    program = bench.build(HEAD + PROGRAMS[name])
    plain = bench.plain(program)
    ran = refuses_rseq(bench, program)
    assert (ran.status, plainly(ran.out), ran.err) == (plain[0], plainly(plain[1]), plain[2])
    assert ran.plan.header()["state"] == "active"
    check_counts(ran)
