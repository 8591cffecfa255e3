"""Functions whose first five bytes cannot become a jump: the agent leaves them alone, and the program says the same."""

import pathlib
import shutil
import time

import pytest
from agent_bench import LIBRARY, LIVE, Bench, Module, symbols
from agent_programs import HEAD
from test_agent_attach import Talk

pytestmark = [
    pytest.mark.skipif(not LIBRARY.exists(), reason="the native agent is not built for this machine"),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("nm")), reason="no compiler"),
]
TRAPS = pathlib.Path(__file__).resolve().parents[1] / "native" / "traps.s"
# What is called, how often it must be in the trace (None: it cannot be hooked, or more than one way leads into it), and why it is refused.
CALLED = {
    "jumped_into": "branched", "jumps_there": "", "called_into": "branched", "calls_there": "", "counted": "branched", "loop_begins": "", "addressed": "branched",
    "takes_address": "", "in_addresses": "table", "by_addresses": "", "in_offsets": "table", "in_label_offsets": "table", "behind_data": "branched", "has_data": "",
    "with_data": "", "after_data": "", "short_alone": "", "short_before_code": "short", "short_before_target": "branched", "branches_behind": "",
    "short_before_frame": "short", "overlapped": "shared", "overlaps": "", "framed": "", "alias_two": "",
}  # fmt: skip
INSIDE = {"counts_on": "", "loop_body": "", "loop_ends": "", "framed_middle": "shared"}
MAIN = (
    "#include <stdio.h>\n"
    + "".join(f"int {name}(long, long, long, long);\n" for name in CALLED)
    + "int main(void) {\n"
    + "".join(f'    for (int i = 0; i < 3; i++) printf("{name} %d\\n", {name}(0, 0, 0, 5));\n' for name in CALLED)
    + "".join(f'    printf("behind %d\\n", ((int (*)(void))((char *)short_before_{name} + 3))());\n' for name in ("code", "target", "frame"))
    + "    return 0;\n}\n"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("traps"))


@pytest.fixture(scope="module", params=["pie", "no-pie"])
def program(bench, request):
    return bench.build(MAIN, f"traps-{request.param}", flags=(str(TRAPS), f"-{request.param}"))


def test_what_leads_into_the_first_bytes_is_seen(bench, program):
    """FORBIDDEN: another output than without the agent."""
    functions = {name: where for name, where in symbols(program).items() if name in CALLED or name in INSIDE or name == "main"}
    modules = [Module(str(program), functions, 1)]
    ran = bench.run(program, modules=modules, timeout=10)
    assert (ran.status, ran.out, ran.err) == bench.plain(program)
    expected = {name: why for name, why in {**CALLED, **INSIDE}.items() if why}
    assert ran.plan.refused() == expected
    calls = ran.calls()
    assert {name: calls[name] for name, why in CALLED.items() if not why and name not in ("overlaps", "framed")} == {
        name: 3 for name, why in CALLED.items() if not why and name not in ("overlaps", "framed")
    }
    assert calls["loop_body"] == 3 * 10


def test_a_chosen_function_is_safe_from_all_others(bench, program):
    """Those that lead there are not in the plan: they are seen all the same."""
    for name, why in CALLED.items():
        if why not in ("branched", "table"):
            continue
        ran = bench.run(program, only={name}, timeout=10)
        assert (ran.status, ran.out) == bench.plain(program)[:2]
        assert ran.plan.refused() == {name: why}


ENDS = """asm(".text; .globl last_whole, last_byte; .type last_whole, @function; .type last_byte, @function\\n"
    "last_whole: mov $5, %eax; ret; .size last_whole, 6; last_byte: ret; .size last_byte, 1");
"""


def test_a_function_at_the_very_end_of_the_code(bench):
    library = bench.build(ENDS, "libends.so", flags=("-shared", "-nostdlib", "-Wl,--build-id=none"))
    program = bench.build(
        '#include <stdio.h>\nint last_whole(void), last_byte(void);\nint main(void) { int n = last_whole(); last_byte(); printf("%d\\n", n); return 0; }',
        "ends",
        flags=(str(library), f"-Wl,-rpath,{bench.path}"),
    )
    ran = bench.run(program, modules=[Module(str(library), symbols(library), 1)])
    assert (ran.status, ran.out, ran.err) == bench.plain(program)
    assert ran.plan.refused() == {"last_byte": "bounds"}
    assert ran.calls() == {"last_whole": 1}


# Threads that stand in a function's first five bytes nearly all the time.
STANDS = HEAD + r"""
#include <dlfcn.h>
long slow_head(long);
asm(".text; .p2align 4; .globl slow_head; .type slow_head, @function\nslow_head: nop; pause; nop; nop; lea 1(%rdi), %rax; ret; .size slow_head, . - slow_head");
static volatile int over;
static void *worker(void *p) { (void)p; long n = 0; while (!over) { long next = slow_head(n); if (next != n + 1) abort(); n = next; } return NULL; }
int main(void) {
    pthread_t t[3]; for (int i = 0; i < 3; i++) pthread_create(&t[i], NULL, worker, NULL);
    int (*start)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "atf_agent_start"); int (*stop)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "atf_agent_stop");
    static char line[4096]; setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) { line[strcspn(line, "\n")] = 0; if (!strncmp(line, "start ", 6)) printf("%d\n", start(line + 6)); else if (!strcmp(line, "stop")) printf("%d\n", stop()); else break; }
    over = 1; for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
    puts("whole"); return 0; }
"""


def test_threads_that_stand_among_the_bytes_go_on_where_these_went(bench):
    """FORBIDDEN: a thread that goes on in the middle of the jump."""
    talk = Talk(bench.build(STANDS, "stands"))
    for _ in range(8):
        with bench.session([Module(str(bench.path / "stands"), {"slow_head": symbols(bench.path / "stands")["slow_head"]}, 1)], LIVE, policy="drop-oldest", slots=8) as run:
            segments, plan, take_in, gatherer = run
            take_in(talk.process.pid)
            assert talk.ask(f"start {plan.path}") == "0"
            assert (plan.header()["hooked"], plan.header()["stopped"]) == (1, 3)
            time.sleep(0.01)
            segments.segments.stop()
            assert talk.ask("stop") == "0"
            gatherer.stop()
    talk.process.stdin.write("end\n")
    assert talk.process.communicate(timeout=20)[0].strip() == "whole" and talk.process.returncode == 0
