"""The native agent for aarch64, cross-compiled and run with its targets under user emulation: programs do what they do without it, and the
trace says what they say of themselves. Nothing here was seen on such a processor."""

import json
import re
import shutil
import subprocess
import time

import agent_emulated
import native_values
import pytest
from agent_bench import ENTRY_ONLY, LIVE, Module
from agent_check import check, plainly
from agent_emulated import MISSING, PREFIX, Emulated, symbols
from agent_programs import CXX, HEAD, C
from agent_shapes import GCC, TREE
from agent_shapes import C as SHAPES
from agent_shapes_cxx import CXX as SHAPES_CXX
from agent_shapes_cxx import GUARDS
from test_agent_attach import BUSY, HOSTS, LOADS, MANY, PLUGIN, THROWS, Talk
from test_agent_details import ARGS, BACKTRACE, DETAILS, SWITCHED, TIMED, All
from test_native_details import compare

from atf.native import plan as plan_file
from atf.native.modules import choose_modules
from atf.native.signatures import Signatures

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"to compile and to emulate programs for aarch64 needs {', '.join(MISSING)}")

# Signs return addresses and begins with landing pads, or neither.
PROTECTED, BARE = "-mbranch-protection=standard", "-mbranch-protection=none"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return agent_emulated.build_agent(tmp_path_factory.mktemp("agent"))


@pytest.fixture
def bench(tmp_path, library):
    yield Emulated(tmp_path, library)
    shutil.rmtree(tmp_path, ignore_errors=True)


LONG = [*C, *CXX, *SHAPES, *SHAPES_CXX]  # all that is not x86's own: make stress
OF_C = ["values", "coroutines", "signals", "thread_ends", "children", "tail_calls"]
OF_SHAPES = ["tree_of_returns", "tree_of_longjmps", "tree_of_faults", "tree_of_handlers", "tree_around_main", "gotos_and_blocks"]
OF_CXX = ["throw", "noexcept"]
OF_SHAPES_CXX = ["tree_of_exceptions", "tree_of_cleanups", "coroutines20", "statics", "names_of_frames", "terminates"]


@pytest.mark.parametrize("name", OF_C)
def test_c(bench, name):
    ran = check(bench, bench.build(HEAD + C[name], flags=[PROTECTED if len(name) % 2 else BARE]))
    if name == "tail_calls":
        with ran.trace() as trace:
            assert len(trace.events(kind="return")) == sum(ran.calls().values())


@pytest.mark.parametrize("name", [*OF_SHAPES, *GCC])
def test_shapes(bench, name):
    check(bench, bench.build(TREE + {**SHAPES, **GCC}[name], flags=["-rdynamic", "-Wl,-z,execstack", PROTECTED if len(name) % 2 else BARE]))


@pytest.mark.parametrize("way", ["-pg", "-finstrument-functions", "-fpatchable-function-entry=4,2"])
def test_compiled_for_tracing(bench, way):
    check(bench, bench.build(TREE + SHAPES["tree_of_returns"], flags=[way]))


@pytest.mark.parametrize("name", OF_CXX)
@pytest.mark.parametrize("way", [PROTECTED, BARE])
def test_cxx(bench, name, way):
    check(bench, bench.build(HEAD + CXX[name], cxx=True, flags=[way]))


@pytest.mark.parametrize("name", OF_SHAPES_CXX)
def test_shapes_cxx(bench, name):
    check(bench, bench.build(GUARDS + SHAPES_CXX[name], cxx=True, flags=["-std=c++20", "-rdynamic", PROTECTED if len(name) % 2 else BARE]))


@pytest.mark.stress
@pytest.mark.parametrize("way", [PROTECTED, "-mbranch-protection=pac-ret+leaf", "-O0", "-O3"])
@pytest.mark.parametrize("name", [name for name in LONG if name not in ("flags", "vectors", "chosen_at_load", "leaves_in_the_middle")])
def test_every_program_every_way(bench, name, way):
    if name == "tail_calls" and way == "-O0":
        pytest.skip("no tail calls there, and no stack that deep")
    if name in C or name in CXX:
        check(bench, bench.build(HEAD + {**C, **CXX}[name], cxx=name in CXX, flags=[way]))
    elif name in SHAPES:
        check(bench, bench.build(TREE + SHAPES[name], flags=["-rdynamic", way]))
    else:
        check(bench, bench.build(GUARDS + SHAPES_CXX[name], cxx=True, flags=["-std=c++20", "-rdynamic", way]))


class Emulation(Talk):
    """A program that does as it is told."""

    def __init__(self, bench, program):
        words = [*bench.emulator({"LD_PRELOAD": str(bench.library)}), str(program)]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def over(self):
        out = self.process.communicate("end\n", timeout=30)[0].strip()
        return self.process.returncode, out


@pytest.mark.parametrize("traps", [False, True])
def test_attach_and_detach_under_load(bench, traps):
    """FORBIDDEN: a crash, a wrong result, a byte of code that is not what it was, or an unfinished plan."""
    program = bench.build(BUSY, flags=[PROTECTED])
    modules = bench.modules(program, only={"sweep", *(f"f{i}" for i in range(MANY))}, flags=All(32) if traps else None)
    talk = Emulation(bench, program)
    before = talk.ask("sum")
    for _ in range(4):
        with bench.session(modules, LIVE | (64 if traps else 0), policy="drop-oldest", index_bytes=65536, slots=8) as (segments, plan, take_in, gatherer):
            take_in(talk.process.pid)
            assert talk.ask(f"start {plan.path}") == "0"
            header = plan.header()
            assert header["state"] == "active" and header["hooked"] == MANY + 1 and header["stopped"] == 4, (header, plan.refused())
            assert plan.traps() == (MANY + 1 if traps else 0)
            assert talk.ask("sum") != before
            until = time.monotonic() + 20
            while bench.taken.source.totals["events"] < 500 and time.monotonic() < until:
                time.sleep(0.01)
            segments.segments.stop()
            assert talk.ask("stop") == "0" and plan.header()["state"] == "detached"
            assert talk.ask("sum") == before
            gatherer.stop()
            assert bench.taken.source.totals["events"] >= 500
    assert talk.over() == (0, "1")


def test_entry_only(bench):
    source = HEAD + 'KEEP int leaf(int x) { asm volatile(""); return x + 1; }\nKEEP int mid(int x) { return leaf(x) + leaf(x + 1); }\nint main(void) { int s = 0; for (int i = 0; i < 50; i++) s += mid(i); printf("%d\\n", s); return 0; }\n'
    program = bench.build(source)
    ran = bench.run(program, only={"leaf", "mid", "main"}, flags=ENTRY_ONLY)
    assert (ran.status, ran.out) == bench.plain(program)[:2]
    assert ran.calls() == {"leaf": 100, "mid": 50, "main": 1}
    with ran.trace() as trace:
        assert len(list(trace.events(kind="return"))) == 0


def test_libraries_that_come_and_go(bench):
    plugin = bench.build(PLUGIN, "plugin.so", flags=("-shared", "-fPIC"))
    program = bench.build(LOADS.replace("int main", "static void mmap_something(void) {}\nint main"))
    functions = {name: where for name, where in symbols(plugin).items() if name in ("plugin", "again")}
    ran = bench.run(program, plugin, modules=[*bench.modules(program, only={"main"}), Module(str(plugin), functions, 2)])
    assert (ran.status, ran.out, ran.err) == bench.plain(program, plugin)
    assert {name: ran.calls()[name] for name in functions} == {"plugin": 200, "again": 200}


def test_a_library_with_exceptions_comes_late(bench):
    plugin = bench.build(THROWS, "throws.so", cxx=True, flags=("-shared", "-fPIC", PROTECTED))
    program = bench.build(HOSTS)
    functions = {name: where for name, where in symbols(plugin).items() if name in ("guarded", "_Z7throweri")}
    ran = bench.run(program, plugin, modules=[*bench.modules(program, only={"host", "main"}), Module(str(plugin), functions, 2)])
    assert (ran.status, ran.out, ran.err) == bench.plain(program, plugin)
    assert ran.calls() == {"host": 100, "guarded": 100, "_Z7throweri": 100, "main": 1}
    with ran.trace() as trace:
        assert len(list(trace.events(kind="exception"))) == 50


@pytest.mark.parametrize("name", ["values", "throw", "tree_of_cleanups"])
def test_every_detail_then_only_long_calls(bench, name):
    texts = C | CXX
    source = HEAD + texts[name] if name in texts else GUARDS + SHAPES_CXX[name]
    program = bench.build(source, cxx=name not in C, flags=["-std=c++20"] if name not in C else [])
    rich = {"flags": ARGS | BACKTRACE, "stack_bytes": 32, "detail_rings": 4, "detail_bytes": 4 << 20}
    whole = bench.run(program, modules=bench.modules(program, flags=All(DETAILS)), **rich)
    assert (whole.status, plainly(whole.out), whole.err) == (0, plainly(bench.plain(program)[1]), "")
    with whole.trace() as trace:
        assert trace.check() == []
        assert all(event.has_detail for event in trace.events(kind="call", limit=3000))
    ran = bench.run(program, modules=bench.modules(program, flags=All(TIMED)), min_duration_ns=20_000)
    assert (ran.status, plainly(ran.out)) == (0, plainly(whole.out))
    assert sum(ran.calls().values()) + ran.plan.header()["filtered"] == sum(whole.calls().values())


def test_a_coroutine_that_was_switched_away(bench):
    program = bench.build(HEAD + SWITCHED)
    modules = bench.modules(program, flags=All(DETAILS | TIMED))
    ran = bench.run(program, modules=modules, flags=ARGS | BACKTRACE, min_duration_ns=20_000_000, detail_rings=4, detail_bytes=1 << 20)
    assert (ran.status, ran.out, ran.err) == (0, "done\n", "") and ran.plan.header()["orphans"] == 1


# A function for each instruction that is not the same elsewhere; all of them return 7 with x0 = 7, sp and every other register as before.
MOVED = {
    "adr_first": "adr x9, 1f; 1: ldr w9, [x9]; ldr w10, 1b; cmp w9, w10; cset w9, eq; mul w0, w0, w9; ret",
    "adrp_first": "adrp x9, word; ldr w9, [x9, :lo12:word]; sub w0, w9, #93; ret",
    "ldr_w": "ldr w9, 2f; sub w0, w9, #93; ret; 2: .word 100",
    "ldr_x": "ldr x9, 2f; sub x0, x9, #93; ret; .p2align 3; 2: .quad 100",
    "ldrsw_x": "ldrsw x9, 2f; add x0, x9, #107; ret; 2: .word -100",
    "ldr_s": "ldr s16, 2f; fmov w9, s16; sub w0, w9, #93; ret; 2: .word 100",
    "ldr_d": "ldr d16, 2f; fmov x9, d16; sub x0, x9, #93; ret; .p2align 3; 2: .quad 100",
    "ldr_q": "ldr q16, 2f; mov x9, v16.d[1]; sub x0, x9, #93; ret; .p2align 4; 2: .quad 1, 100",
    "prefetch": "prfm pldl1keep, 2f; ret; 2: .word 0",
    "condition": "b.eq 2f; mov x0, #0; 2: ret",
    "condition_not": "b.ne 2f; ret; 2: mov x0, #0; ret",
    "zero": "cbz x0, 2f; ret; 2: mov x0, #1; ret",
    "not_zero": "cbnz w0, 2f; mov x0, #1; 2: ret",
    "bit": "tbz x0, #40, 2f; mov x0, #1; 2: ret",
    "bit_set": "tbnz w0, #2, 2f; mov x0, #1; 2: ret",
    "jump": "b 2f; udf #0; 2: ret",
    "jump_away": "b elsewhere",
    "plain": "add x0, x0, #1; sub x0, x0, #1; ret",
    "only_ret": "ret",
    "landing": "bti c; ret",
    "landing_far": "hint #38; cbnz x0, 2f; mov x0, #1; 2: ret",
    "signs": "paciasp; stp x29, x30, [sp, #-16]!; bl elsewhere; ldp x29, x30, [sp], #16; autiasp; ret",
    "signs_and_leaves": "paciasp; autiasp; ret",
    "patchable": "nop; nop; ret",
    "keeps_link": "mov x9, x30; mov x10, x30; cmp x9, x10; cset x9, eq; mul x0, x0, x9; ret",
    "has_link_in_a_register": "mov x10, x30; bl elsewhere; bl elsewhere; mov x30, x10; ret",
    "calls": "bl elsewhere; mov x30, x22; ret",
    "calls_by": "blr x23; mov x30, x22; ret",
}
REFUSED = {"loops": ("subs x9, x9, #1; b.hi loops; ret", "jump back"), "behind": ("bti c; 2: subs x9, x9, #1; b.hi 2b; ret", "jump back"), "no_code": ("udf #0", "instruction")}
ASSEMBLY = "".join(f".p2align 2\n.globl {n}\n.type {n}, %function\n{n}: {code}\n.size {n}, .-{n}\n" for n, code in {**MOVED, "elsewhere": "ret", **{n: c for n, (c, _) in REFUSED.items()}}.items())
CHECKS = r"""
long touch(long (*f)(long));
asm(".text\n.globl touch\ntouch: stp x29, x30, [sp, #-128]!; stp x19, x20, [sp, #16]; stp x21, x22, [sp, #32]; str x23, [sp, #64]; stp d8, d9, [sp, #48]\n"
    "mov x19, x0; mov x20, sp; mov x0, #7\n"
    "mov x1, #101; mov x2, #102; mov x3, #103; mov x4, #104; mov x5, #105; mov x6, #106; mov x7, #107; mov x8, #108; mov x9, #3; mov x11, #111; mov x12, #112; mov x13, #113; mov x14, #114; mov x15, #115; mov x16, #116; mov x17, #117; mov x18, #118\n"
    "fmov d0, #1.0; fmov d1, #2.0; fmov d7, #3.0; fmov d31, #4.0; cmp x0, #7\n"
    "adr x22, 3f; adrp x23, elsewhere; add x23, x23, :lo12:elsewhere; blr x19\n3: cset x21, eq; mov x9, sp; cmp x9, x20; b.ne 1f; cmp x1, #101; mov x9, #102; ccmp x2, x9, #0, eq; mov x9, #103; ccmp x3, x9, #0, eq; mov x9, #104; ccmp x4, x9, #0, eq; mov x9, #105; ccmp x5, x9, #0, eq\n"
    "mov x9, #106; ccmp x6, x9, #0, eq; mov x9, #107; ccmp x7, x9, #0, eq; mov x9, #108; ccmp x8, x9, #0, eq; mov x9, #111; ccmp x11, x9, #0, eq; mov x9, #112; ccmp x12, x9, #0, eq; mov x9, #113; ccmp x13, x9, #0, eq\n"
    "mov x9, #114; ccmp x14, x9, #0, eq; mov x9, #115; ccmp x15, x9, #0, eq; mov x9, #118; ccmp x18, x9, #0, eq; mov x9, #117; ccmp x17, x9, #0, eq; b.ne 1f; adrp x9, calls_by; add x9, x9, :lo12:calls_by; cmp x19, x9; b.eq 4f; cmp x16, #116; b.ne 1f; 4: nop\n"
    "fmov d16, #1.0; fcmp d0, d16; b.ne 1f; fmov d16, #2.0; fcmp d1, d16; b.ne 1f; fmov d16, #3.0; fcmp d7, d16; b.ne 1f; fmov d16, #4.0; fcmp d31, d16; b.ne 1f; b 2f\n"
    "1: mov x0, #-1\n2: ldp d8, d9, [sp, #48]; ldr x23, [sp, #64]; ldp x21, x22, [sp, #32]; ldp x19, x20, [sp, #16]; ldp x29, x30, [sp], #128; ret");
"""


def test_first_instructions(bench):
    """FORBIDDEN: another value, another register or another flag than without the agent."""
    names = [*MOVED, "loops", "behind"]
    calls = "".join(f'    for (int i = 0; i < 3; i++) printf("{name} %ld\\n", touch({name}));\n' for name in names)
    source = HEAD + "const int word = 100;\n" + "".join(f"long {name}(long);\n" for name in names) + CHECKS + "int main(void) {\n" + calls + "    return 0; }\n"
    text = bench.path / "moved.s"
    text.write_text(".arch armv8.5-a\n.text\n" + ASSEMBLY)
    program = bench.build(source, flags=[str(text)])
    assert sum(line.endswith(" 7") for line in bench.plain(program)[1].splitlines()) == 3 * len(names)
    ran = bench.run(program, only={*MOVED, *REFUSED, "elsewhere", "main"})
    assert (ran.status, ran.out, ran.err) == bench.plain(program)
    assert ran.plan.refused() == {name: why for name, (_, why) in REFUSED.items()}
    assert ran.calls() == {**dict.fromkeys(MOVED, 3), "elsewhere": 18, "main": 1}
    rich = {"flags": ARGS | BACKTRACE | 64, "stack_bytes": 32, "detail_rings": 4, "detail_bytes": 1 << 20}
    for flags in (All(DETAILS), All(32), All(TIMED)):
        modules = bench.modules(program, {*MOVED, "main"}, flags)
        ran = bench.run(program, modules=modules, **rich, min_duration_ns=1 if flags["all"] == TIMED else 0)
        assert (ran.status, ran.out, ran.err) == bench.plain(program)
        assert ran.plan.traps() == (len(modules[0].functions) if flags["all"] == 32 else 0)
        assert ran.calls() == {**dict.fromkeys(MOVED, 3), "main": 1}


GUARDED = HEAD + r"""
#include <dlfcn.h>
#include <sys/mman.h>
extern char __executable_start, etext;
KEEP long pad(long x) { asm volatile(""); return x + 1; }
KEEP long sign(long x) { long r = pad(x); asm volatile(""); return r * 2; }
static long (*volatile const by[])(long) = {pad, sign};
KEEP int passes(int skip) { int s; pid_t p = fork(); if (!p) { long (*f)(long) = (long (*)(long))((char *)by[0] + skip); _exit((int)f(4) & 63); } waitpid(p, &s, 0); return WIFSIGNALED(s) ? -WTERMSIG(s) : WEXITSTATUS(s); }
int main(void) {
    static char line[4096]; setvbuf(stdout, NULL, _IOLBF, 0);
    uintptr_t low = (uintptr_t)&__executable_start & ~4095ul, high = ((uintptr_t)&etext + 4095) & ~4095ul;
    if (mprotect((void *)low, high - low, PROT_READ | PROT_EXEC | 0x10 /* PROT_BTI */)) return 77;
    printf("%d %d\n", passes(0), passes(4));
    int (*start)(const char *) = (int (*)(const char *))dlsym(RTLD_DEFAULT, "atf_agent_start"); int (*stop)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "atf_agent_stop");
    while (fgets(line, sizeof line, stdin)) { line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "start ", 6)) printf("%d\n", start(line + 6)); else if (!strcmp(line, "stop")) printf("%d\n", stop()); else if (strcmp(line, "call")) break;
        else { long s = 0; for (int i = 0; i < 20; i++) s += by[i & 1](i); printf("%ld\n", s); } }
    return 0; }
"""


def test_pages_that_want_landing_pads(bench):
    """Indirect calls of hooked functions pass where the processor checks what they lead to: at a landing pad, and at a signing that is one."""
    program = bench.build(GUARDED, flags=[PROTECTED])
    talk = Emulation(bench, program)
    if talk.process.stdout.readline().split() != ["5", "-4"]:
        pytest.skip("this emulator checks no landing pads")
    before = talk.ask("call")
    for _ in range(2):
        with bench.session(bench.modules(program, only={"pad", "sign"}), LIVE) as (segments, plan, take_in, gatherer):
            take_in(talk.process.pid)
            assert talk.ask(f"start {plan.path}") == "0" and plan.header()["hooked"] == 2
            assert talk.ask("call") == before
            segments.segments.stop()
            assert talk.ask("stop") == "0" and talk.ask("call") == before
            gatherer.stop()
            assert bench.taken.source.totals["events"] == 2 * 30
    assert talk.over() == (0, "")


def test_a_program_with_more_data_than_a_branch_reaches(bench):
    source = "static char much[300 << 20];\nKEEP char *far(long n) { asm volatile(\"\"); return much + n; }\nint main(void) { *far(299 << 20) = 5; printf(\"%d\\n\", *far(299 << 20)); CALLS(far, 2); return 0; }"
    check(bench, bench.build(HEAD + source))


def test_a_clock_that_it_cannot_read(bench):
    """FORBIDDEN: times of another machine's counter."""
    program = bench.build("int main(void) { return 7; }")
    bench.common_clock = False
    with bench.session(bench.modules(program)) as (segments, plan, _, _):
        if segments.segments.info["clock"] != "tsc":
            pytest.skip("this machine's own clock is the common one")
        done = subprocess.run([*bench.emulator(bench.preloaded(plan)), program], capture_output=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")
    assert (plan.header()["state"], plan.header()["error"]) == ("failed", 5)


def test_no_vector_register_is_written(library):
    """What a program keeps there is its own. They are stored for details, and that is all."""
    text = subprocess.run([PREFIX + "objdump", "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t")[1:] for line in text.splitlines() if line.count("\t") >= 2]
    found = [row for row in rows if re.search(r"(?<![\w<+.])[vqdsbhz](?:[12]?\d|3[01])\b", row[1].split("//")[0].split("<")[0])]
    assert len(rows) > 5000 and len(found) == 8 and all(row[0].strip() == "stp" for row in found), found


@pytest.mark.parametrize("linked", [(), ("-static-libgcc", "-static-libstdc++")])
def test_everything_that_the_controller_lists(bench, linked):
    """All functions of a program, an unwinder and the standard library among them where they are linked in."""
    program = bench.build(GUARDS + SHAPES_CXX["tree_of_exceptions"], cxx=True, flags=[*linked, PROTECTED])
    listed = choose_modules(str(program), [])
    assert any(one.role == 13 for module in listed for one in module.chosen) == bool(linked)
    with bench.session([]) as (segments, plan, take_in, gatherer):
        plan = plan_file.Plan(str(bench.out / "listed"), listed, segments.ids)
        process = subprocess.Popen([*bench.emulator(bench.preloaded(plan)), program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        take_in(process.pid)
        out, err = process.communicate(timeout=60)
        while gatherer.live:
            gatherer.poll()
        refused = [(name, why) for _, name, why in plan.refused()]
        hooked = plan.value("hooked")
    plain = bench.plain(program)
    assert (process.returncode, out, err) == plain
    told = sum(line.startswith(("<", ">", "!")) for line in out.splitlines())
    assert bench.taken.source.totals["events"] >= told > 5000
    assert hooked >= 0.95 * sum(len(module.chosen) for module in listed), refused


def test_arguments_and_results(bench):
    """By their types, as the calling convention places them. The drain is this machine's, and says so in the files: that is put right first."""
    pytest.importorskip("elftools")
    program = bench.build(native_values.C)
    modules = bench.modules(program, flags=All(DETAILS))
    ran = bench.run(program, modules=modules, flags=ARGS, stack_bytes=64, detail_rings=4, detail_bytes=1 << 20)
    assert (ran.status, ran.out, ran.err) == bench.plain(program)
    for file in ran.path.rglob("*.atf"):
        content = bytearray(file.read_bytes())
        content[6] = 2
        file.write_bytes(content)
    path, functions = ran.path / "manifest.json", modules[0].functions
    manifest = json.loads(path.read_text())
    known = Signatures(str(program)).of([vaddr for vaddr, _ in functions.values()])
    for symbol in manifest["symbols"]:
        symbol.update(known.get(functions.get(symbol["name"], (0, 0))[0], {}))
    path.write_text(json.dumps(manifest))
    halves, huge = dict(native_values.C_SAYS["halves"][0]), dict(native_values.C_SAYS["huge"][0])
    halves["l"], huge["b"] = "…", "at 0x"  # 16 bytes in one register; a copy, by its address
    changed = {"halves": (halves, native_values.C_SAYS["halves"][1]), "huge": (huge, "…"), "longer": ({"v": "…"}, "…")}
    with ran.trace() as trace:
        assert trace.check() == []
        compare(trace, {**native_values.C_SAYS, **changed})


def test_everything_of_the_standard_library(bench):
    """Its personality routine too: frames of it, and of what it calls, are younger than those that an exception ended."""
    program = bench.build(HEAD + CXX["rethrow"], cxx=True, flags=[PROTECTED])
    library = f"{agent_emulated.ROOT}/lib/libstdc++.so.6"
    functions = {name: where for name, where in symbols(library, dynamic=True).items() if where[1] >= 16 and not name.startswith("__cxa_begin_catch")}
    ran = bench.run(program, modules=[*bench.modules(program), Module(library, functions, 2)])
    plain = bench.plain(program)
    assert (ran.status, plainly(ran.out), ran.err) == (plain[0], plainly(plain[1]), plain[2])
    calls = ran.calls()
    assert [calls[name] for name in ("_Z3topi", "_Z6middlei", "_Z6bottomi")] == [2000, 4000, 6000] and calls["__gxx_personality_v0"] > 1000
