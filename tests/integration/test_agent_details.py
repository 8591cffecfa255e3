"""Programs that are hard to trace, with every detail of every call, and with only those calls that last long enough: they do what they do alone."""

import json
import shutil

import pytest
from agent_bench import LIBRARY, Bench
from agent_programs import CXX, HEAD, C
from test_agent_behaviour import check

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++") and shutil.which("nm")), reason="no compiler"),
]

ARGS, BACKTRACE = 4, 8  # of a plan
DETAILS, TIMED = 2, 4  # of a function
LEAST_NS = 20_000
LONG = ("recursion", "longjmp_in_a_loop", "threads", "rethrow")
LEFT_OPEN = ("signals", "noexcept", "thread_ends")  # calls that nobody sees the end of, or as many as the clock says


class All(dict):
    """The same flags for every function."""

    def __init__(self, flags):
        super().__init__(all=flags)

    def get(self, name, default=0):
        return self["all"]


@pytest.fixture
def bench(tmp_path):
    yield Bench(tmp_path)
    shutil.rmtree(tmp_path)  # hundreds of megabytes


def build(bench, name):
    return bench.build(HEAD + (C | CXX)[name], cxx=name in CXX)


def everything(bench, program):
    return {
        "modules": bench.modules(program, flags=All(DETAILS)),
        "flags": ARGS | BACKTRACE,
        "stack_bytes": 32,
        "detail_rings": 4,
        "detail_bytes": 4 << 20,
    }


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.stress] if name in LONG else []) for name in (*C, *CXX)])
def test_every_detail_then_only_long_calls(bench, name):
    program = build(bench, name)
    whole = check(bench, program, **everything(bench, program))
    total = sum(whole.calls().values())
    with whole.trace() as trace:
        assert trace.check() == []
        detailed = sum(1 for event in trace.events(kind="call", limit=3000) if event.has_detail)
    assert detailed > 0.9 * min(total, 3000) or name == "signals"

    ran = bench.run(program, modules=bench.modules(program, flags=All(TIMED)), min_duration_ns=LEAST_NS)
    said = [[line for line in text.splitlines() if not line.startswith("@")] for text in (ran.out, whole.out)]
    assert (ran.status, said[0], ran.err) == (whole.status, said[1], whole.err)
    with ran.trace() as trace:
        assert trace.check() == []
        written = sum(row.count for row in trace.top(None))
        if not ran.plan.header()["orphans"]:
            short = [span for span in trace.spans(status="ok") if span.duration_ns <= 0.98 * LEAST_NS]
            assert short == [], [(span.name, span.duration_ns, span.depth, span.start_ns) for span in short]
    assert written < total
    if name not in LEFT_OPEN:
        assert written + ran.plan.header()["filtered"] == total


def test_calls_of_a_rich_program_while_signals_come(bench):
    """Both at once: what a filter keeps has its details, and what it does not keep costs none."""
    program = build(bench, "signals")
    modules = bench.modules(program, flags=All(DETAILS | TIMED))
    ran = bench.run(program, "altstack", modules=modules, flags=ARGS | BACKTRACE, min_duration_ns=LEAST_NS, detail_rings=4, detail_bytes=1 << 20)
    assert ran.status == 0 and ran.err == ""
    with ran.trace() as trace:
        assert trace.check() == []
        assert all(span.duration_ns > 0.98 * LEAST_NS for span in trace.spans(status="ok"))
        (main,) = trace.spans(function="main")
        assert main.args is not None and main.result is not None
    told = sum(int(line.split()[1]) for line in ran.out.splitlines())
    assert ran.plan.header()["filtered"] > 0.9 * told


@pytest.mark.guard
def test_signals_come_after_a_wait_for_the_drain(bench):
    """FORBIDDEN: a thread that waited for room, and from then on gets no signals."""
    source = """
    #include <signal.h>
    KEEP int leaf(int x) { volatile int y = x; return y + 1; }
    int main(void) {
        sigset_t is, want; sigemptyset(&want); sigaddset(&want, SIGUSR2); sigprocmask(SIG_SETMASK, &want, NULL);
        for (int i = 0; i < 20000; i++) { leaf(i); sigprocmask(SIG_SETMASK, NULL, &is); if (memcmp(&is, &want, 8)) return 7; }
        return 0;
    }"""
    program = bench.build(HEAD + source)
    ran = bench.run(program, **{**everything(bench, program), "detail_rings": 2, "detail_bytes": 16384})
    assert (ran.status, ran.err) == (0, "")
    with ran.trace() as trace:
        assert trace.check() == [] and sum(row.count for row in trace.top(None)) == 20001
    (thread,) = json.loads((ran.path / "manifest.json").read_text())["threads"]
    assert thread["metrics"]["blocked_ns"] > 0, "it never waited"


def test_a_full_detail_lane(bench):
    """FORBIDDEN: a record that is lost with its detail, or a detail that nobody counts."""
    source = "KEEP int leaf(int x) { volatile int y = x; return y + 1; } int main(void) { for (int i = 0; i < 60000; i++) leaf(i); return 0; }"
    program = bench.build(HEAD + source)
    few = {"detail_rings": 2, "detail_bytes": 16384, "index_rings": 4, "index_bytes": 2 << 20}
    ran = bench.run(program, policy="drop-oldest", **{**everything(bench, program), **few})
    with ran.trace() as trace:
        assert trace.check() == []
        events = [event for event in trace.events() if event.kind in ("call", "return")]
        assert [event.kind for event in events].count("call") == 60001
        bare = sum(1 for event in events if not event.has_detail)
    (thread,) = json.loads((ran.path / "manifest.json").read_text())["threads"]
    assert 0 < bare < len(events)
    assert bare == thread["details_lost"]


SWITCHED = """
static ucontext_t home, other; static char stack[65536];
KEEP long work(long n) { volatile long k = n; return k + 1; }
KEEP void body(void) { volatile int k = 1; swapcontext(&other, &home); work(k); }
int main(void) {
    getcontext(&other); other.uc_stack.ss_sp = stack; other.uc_stack.ss_size = sizeof stack; other.uc_link = &home;
    makecontext(&other, body, 0);
    swapcontext(&home, &other); work(1); usleep(30000); work(2); swapcontext(&home, &other); work(3);
    puts("done"); return 0; }
"""


def test_a_coroutine_that_was_switched_away(bench):
    """Its frame is off the order when it returns: what it lasted is told all the same."""
    program = bench.build(HEAD + SWITCHED)
    modules = bench.modules(program, flags=All(DETAILS | TIMED))
    ran = bench.run(program, modules=modules, flags=ARGS | BACKTRACE, min_duration_ns=20_000_000, detail_rings=4, detail_bytes=1 << 20)
    assert (ran.status, ran.out, ran.err) == (0, "done\n", "") and ran.plan.header()["orphans"] == 1
    with ran.trace() as trace:
        assert trace.check() == []
        told = [(event.kind, event.function.name) for event in trace.events() if event.function.name != "work"]
        bare = [event.function.name for event in trace.events(kind="call") if not event.has_detail]
    assert told == [("call", "main"), ("call", "body"), ("return", "body"), ("return", "main")] and not bare
