"""Functions that five bytes do not fit: a one-byte trap, and the same records. Programs keep their own SIGTRAP."""

import os
import shutil
import signal
import subprocess

import pytest
from agent_bench import LIBRARY, LIVE, Bench, Module, symbols
from agent_programs import CXX, HEAD, C
from test_agent_attach import BUSY, MANY, Talk

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("g++") and shutil.which("nm")), reason="no compiler"),
]
SLOW, TRAP = 64, 32  # of the plan; of a function: by a trap even where five bytes would do


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


# Each first instruction that cannot be moved by fives, functions of one to four bytes in a row, and branches into the first bytes.
SHAPES = (
    HEAD
    + r"""
asm(".text\n"
    ".macro fn name\n .globl \\name\n .type \\name,@function\n \\name:\n.endm\n"
    ".macro end name\n .size \\name, .-\\name\n.endm\n"
    ".balign 16\n"
    "fn nothing\n ret\n end nothing\n"
    "fn zero\n xor %eax,%eax\n ret\n end zero\n"
    "fn one\n push $1\n pop %rax\n ret\n end one\n"
    "fn count_down\n xor %eax,%eax\n 1: add $2,%eax\n dec %edi\n jnz 1b\n ret\n end count_down\n"
    "fn looped\n lea 1(%rdi),%rcx\n 1: inc %eax\n loop 1b\n ret\n end looped\n"
    "fn starts_with_jcc\n jc 1f\n mov $3,%eax\n ret\n 1: mov $4,%eax\n ret\n end starts_with_jcc\n"
    "fn starts_with_jrcxz\n jrcxz 1f\n mov $5,%eax\n ret\n 1: mov $6,%eax\n ret\n end starts_with_jrcxz\n"
    "fn starts_with_call\n callq *target(%rip)\n inc %eax\n ret\n end starts_with_call\n"
    "fn starts_with_call_reg\n callq *%rdi\n inc %eax\n ret\n end starts_with_call_reg\n"
    "fn starts_with_call_r12\n push %r12\n mov %rdi,%r12\n call calls_r12\n pop %r12\n ret\n end starts_with_call_r12\n"
    "fn calls_r12\n callq *(%r12)\n inc %eax\n ret\n end calls_r12\n"
    "fn starts_with_jmp\n jmp 1f\n .byte 0,0,0\n 1: mov $7,%eax\n ret\n end starts_with_jmp\n"
    "fn loads\n mov value(%rip),%eax\n ret\n end loads\n"
    "fn flags\n setc %al\n movzbl %al,%eax\n ret\n end flags\n"
    ".balign 8\n");
long nothing(long), zero(void), one(void), count_down(int), looped(long), starts_with_jrcxz(long, long, long, long), starts_with_call(void);
long starts_with_call_reg(long (*)(void)), starts_with_call_r12(void *), starts_with_jmp(void), loads(void);
KEEP long forty(void) { return 40; }
void *target = forty; int value = 99;
#define CARRY(name) static int name##_by(int c) { int r; asm volatile("xor %%eax,%%eax; cmp %1,%%eax; call " #name "; mov %%eax,%0" : "=r"(r) : "r"(c) : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "cc", "memory"); return r; }
CARRY(flags) CARRY(starts_with_jcc)
int main(void) {
    long s = 0;
    for (int i = 0; i < 20; i++) {
        nothing(0); asm volatile("xor %%eax,%%eax" : : : "rax");
        s += zero() + 10 * one() + count_down(5) + starts_with_call() + starts_with_call_reg(forty) + starts_with_call_r12(&target) + starts_with_jmp() + loads();
        s += flags_by(0) * 1000 + flags_by(1) * 2000 + starts_with_jcc_by(0) * 100 + starts_with_jcc_by(1) * 300 + (starts_with_jrcxz(0, 0, 0, 0) == 6) + (looped(3) != 0);
    }
    printf("%ld\n", s);
    CALLS(nothing, 20); CALLS(zero, 20); CALLS(one, 20); CALLS(count_down, 20); CALLS(starts_with_call, 20); CALLS(starts_with_call_reg, 20);
    CALLS(calls_r12, 20); CALLS(starts_with_jmp, 20); CALLS(loads, 20); CALLS(flags, 40); CALLS(forty, 60); CALLS(starts_with_jrcxz, 20); CALLS(looped, 20); CALLS(starts_with_jcc, 40);
    return 0; }
"""
)


def told(ran):
    return {name: int(n) for name, n in (line[1:].split() for line in ran.out.splitlines() if line.startswith("@"))}


def check(bench, program, *arguments, **options):
    ran = bench.run(program, *arguments, **options)
    assert (ran.status, ran.out, ran.err) == bench.plain(program, *arguments)
    assert ran.plan.header()["state"] == "active"
    assert {name: n for name, n in ran.calls().items() if name in told(ran)} == {name: n for name, n in told(ran).items() if n}
    return ran


def test_functions_that_five_bytes_do_not_fit(bench):
    program = bench.build(SHAPES)
    without = bench.run(program)
    refused = without.plan.refused()
    assert set(refused.values()) == {"short", "jump back", "instruction"}
    ran = check(bench, program, flags=SLOW)
    assert ran.plan.refused() == {}
    assert (ran.plan.traps(), ran.plan.header()["hooked"]) == (len(refused), len(refused) + without.plan.header()["hooked"])
    with ran.trace() as trace:
        assert trace.check() == []
        calls, returns = (len(list(trace.events(kind=kind))) for kind in ("call", "return"))
        assert calls == returns, "every return is seen"
    (module,) = everything(bench, program)
    ran = check(bench, program, modules=[module], flags=SLOW)
    assert ran.plan.traps() == len(module.functions), "those that a jump fits too"


def everything(bench, program):
    (module,) = bench.modules(program)
    module.flags = dict.fromkeys(module.functions, TRAP)
    return [module]


@pytest.mark.parametrize("name", ["values", "longjmp_in_a_loop", "coroutines", "threads", "thread_ends", "children", "tail_calls", "flags"])
def test_programs_behave_with_a_trap_on_every_function(bench, name):
    program = bench.build(HEAD + C[name])
    ran = check(bench, program, modules=everything(bench, program), flags=SLOW)
    assert ran.plan.traps() == ran.plan.header()["hooked"] > 0


@pytest.mark.parametrize("name", ["throw", "rethrow", "noexcept", "backtrace"])
def test_exceptions_through_traps(bench, name):
    program = bench.build(HEAD + CXX[name], cxx=True)
    check(bench, program, modules=everything(bench, program), flags=SLOW)


TRAPS = HEAD + r"""
KEEP long f(long x) { asm volatile(""); return x + 1; }
static volatile int hits, mine; static volatile long s;
static void on(int n, siginfo_t *i, void *c) { (void)n; (void)i; (void)c; hits++; s = f(s); }
static void usr(int n) { (void)n; mine++; for (int i = 0; i < 3; i++) s = f(s); }
static void *blocked(void *p) { sigset_t all, old; sigfillset(&all); pthread_sigmask(SIG_BLOCK, &all, &old); for (int i = 0; i < 10; i++) s = f(s); sigset_t now; pthread_sigmask(SIG_SETMASK, &old, &now);
    printf("%d %d\n", sigismember(&now, SIGTRAP), sigismember(&old, SIGTRAP)); return p; }
int main(int argc, char **argv) {
    struct sigaction a = {0}, was; sigset_t most; (void)argc;
    if (!strcmp(argv[1], "die")) { s = f(s); asm volatile("int3"); return 0; }
    if (!strcmp(argv[1], "kill")) { s = f(s); raise(SIGTRAP); return 0; }
    if (!strcmp(argv[1], "ignore")) { signal(SIGTRAP, SIG_IGN); raise(SIGTRAP); s = f(s); printf("%ld\n", s); return 0; }
    a.sa_sigaction = on; a.sa_flags = SA_SIGINFO;
    printf("%d\n", sigaction(SIGTRAP, &a, &was)); printf("%d %d\n", was.sa_handler == SIG_DFL, sigaction(SIGTRAP, NULL, &was)); printf("%d\n", was.sa_sigaction == on);
    asm volatile("int3"); raise(SIGTRAP); for (int i = 0; i < 5; i++) s = f(s);
    pthread_t t; pthread_create(&t, NULL, blocked, NULL); pthread_join(t, NULL);
    struct sigaction b = {0}; b.sa_handler = usr; sigfillset(&b.sa_mask); sigaction(SIGUSR1, &b, NULL); raise(SIGUSR1);
    sigaction(SIGUSR1, NULL, &was); printf("%d\n", sigismember(&was.sa_mask, SIGTRAP));
    sigset_t usr1; sigemptyset(&usr1); sigaddset(&usr1, SIGUSR1); sigprocmask(SIG_BLOCK, &usr1, NULL); raise(SIGUSR1); sigfillset(&most); sigdelset(&most, SIGUSR1); sigsuspend(&most);
    printf("%d %d %ld\n", hits, mine, s); CALLS(f, 2 + 5 + 10 + 6); return 0; }
"""


def test_a_program_with_handlers_and_masks_of_its_own(bench):
    program = bench.build(TRAPS)
    modules = bench.modules(program, only={"f"})
    modules[0].flags = {"f": TRAP}
    check(bench, program, "play", modules=modules, flags=SLOW)


@pytest.mark.parametrize("how", ["die", "kill", "ignore"])
def test_what_sigtrap_does_to_a_program_stays(bench, how):
    program = bench.build(TRAPS)
    modules = bench.modules(program, only={"f"})
    modules[0].flags = {"f": TRAP}
    ran = bench.run(program, how, modules=modules, flags=SLOW)
    assert (ran.status, ran.out) == bench.plain(program, how)[:2]
    assert ran.status == (0 if how == "ignore" else -signal.SIGTRAP)
    assert ran.calls() == {"f": 1}


def started_with(bench, **options):
    program = bench.build(HEAD + 'KEEP long f(long x) { asm volatile(""); return x + 1; }\nint main(void) { printf("%ld\\n", f(f(0))); return 0; }\n')
    modules = bench.modules(program, only={"f"})
    modules[0].flags = {"f": TRAP}
    with bench.session(modules, SLOW) as (_segments, plan, take_in, _):
        environment = {**os.environ, "LD_PRELOAD": str(LIBRARY), "ATF_AGENT": plan.path}
        process = subprocess.Popen([program], env=environment, stdout=subprocess.PIPE, text=True, **options)
        take_in(process.pid)
        out = process.communicate(timeout=20)[0]
        assert (process.returncode, out) == (0, "2\n")
        return plan


def test_no_traps_where_the_signal_is_in_use(bench):
    for settle in (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTRAP}), lambda: signal.signal(signal.SIGTRAP, signal.SIG_IGN)):
        plan = started_with(bench, preexec_fn=settle)
        assert plan.refused() == {"f": "signal"}
        assert plan.header()["state"] == "active"


def test_no_traps_in_the_c_library(bench):
    program = bench.build(HEAD + "int main(void) { printf(\"%d\\n\", (int)strlen(getenv(\"HOME\") ? \"home\" : \"\")); return getppid() < 1; }")
    (libc,) = {line.split()[2] for line in subprocess.run(["ldd", program], capture_output=True, text=True).stdout.splitlines() if "libc.so" in line}
    path = os.path.realpath(libc)
    where = {name: at for name, at in symbols(path, dynamic=True).items() if name in ("getppid", "getpid")}
    modules = [*bench.modules(program, only={"main"}), Module(path, where, 2, dict.fromkeys(where, TRAP))]
    ran = bench.run(program, modules=modules, flags=SLOW)
    assert (ran.status, ran.out) == bench.plain(program)[:2]
    assert set(ran.plan.refused().values()) == {"libc"}


def test_traps_come_and_go_under_load(bench):
    """FORBIDDEN: a crash, a wrong result, a byte of code that is not what it was."""
    program = bench.build(BUSY)
    modules = bench.modules(program, only={f"f{i}" for i in range(0, MANY, 2)} | {"sweep"})
    modules[0].flags = dict.fromkeys(list(modules[0].functions)[::2], TRAP)
    talk = Talk(program)
    before = talk.ask("sum")
    for _ in range(8):
        with bench.session(modules, LIVE | SLOW, policy="drop-oldest", index_bytes=65536, slots=8) as (segments, plan, take_in, gatherer):
            take_in(talk.process.pid)
            assert talk.ask(f"start {plan.path}") == "0"
            assert plan.traps() >= MANY // 4 and not plan.refused()
            assert talk.ask("sum") != before
            segments.segments.stop()
            assert talk.ask("stop") == "0"
            assert talk.ask("sum") == before
            gatherer.stop()
            assert bench.taken.source.totals["events"] > 100
    talk.process.stdin.write("end\n")
    assert talk.process.communicate(timeout=20)[0].strip() == "1" and talk.process.returncode == 0
