"""``--args``, ``--stack-bytes``, ``--backtrace`` and ``--min-duration``: what a trace says of calls is what the programs passed."""

import json
import subprocess
import sys

import native_values
import pytest

from native_bench import attach_words, compile_program, manifest_of, needs_agent, needs_frida, needs_gcc, needs_gxx, running

pytestmark = [needs_gcc, needs_agent]
QUIET = ("--quiet",)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")

    def made(name, source, *flags):
        cxx = name.endswith(".cpp")
        file, program = directory / (name if cxx else f"{name}.c"), directory / "_".join([name.removesuffix(".cpp"), *flags]).replace("-", "")
        if not program.exists():
            file.write_text("#define _GNU_SOURCE\n" + source)
            subprocess.run(["g++" if cxx else "gcc", "-std=gnu++17" if cxx else "-std=gnu11", "-w", *flags, str(file), "-o", str(program)], check=True)
        return str(program)

    return made


def fits(found, wanted):
    """Equal; None fits everything, text that ends in 0x any address."""
    if wanted is None:
        return True
    return found.startswith(wanted) if isinstance(wanted, str) and wanted.endswith("0x") else found == wanted


def same(bench, program, *options):
    plain = bench.plain(program)
    ran = bench.record(program, options=(*QUIET, *options))
    assert (ran.status, ran.out, ran.err) == (plain.status, plain.out, plain.err)
    trace = ran.trace()
    assert trace.check() == []
    return ran, trace


def compare(trace, says):
    firsts = {}
    for span in trace.spans():
        firsts.setdefault(span.function.name, span)
    for name, (args, result) in says.items():
        span = firsts[name]
        assert list(span.args) == list(args), name
        for key, wanted in args.items():
            assert fits(span.args[key], wanted), (name, key, span.args[key], wanted)
        assert span.result is None if result is None and name == "nothing" else fits(span.result, result), (name, span.result, result)


@pytest.mark.parametrize("flags", [("-O1", "-g"), ("-O0", "-gdwarf-4"), ("-O2", "-g")])
def test_values_of_c(bench, build, flags):
    pytest.importorskip("elftools")
    program = build("values", native_values.C, *flags)
    ran, trace = same(bench, program, "--args", "--stack-bytes", "128")
    compare(trace, native_values.C_SAYS)
    assert {5: 120, 3: 6}.items() <= {span.args["n"]: span.result for span in trace.spans(function="fact")}.items()  # -O2 leaves some calls out
    symbols = {symbol["name"]: symbol for symbol in manifest_of(ran)["symbols"]}
    (n,) = symbols["fact"]["parameters"]
    assert (n, symbols["nine"]["returns"]["type"]) == ({"name": "n", "type": "int", "as": "i32", "at": "rdi"}, "double")
    assert symbols["login"]["parameters"][0]["type"] == "const char *"


@needs_gxx
@pytest.mark.parametrize("flags", [("-O1", "-g"), ("-O0", "-g")])
def test_values_of_cpp(bench, build, flags):
    pytest.importorskip("elftools")
    _, trace = same(bench, build("shop.cpp", native_values.CXX, *flags), "--args", "--stack-bytes", "64", "--include", "shop::*")
    compare(trace, native_values.CXX_SAYS)
    left = [span for span in trace.spans(function="shop::Basket::add") if span.status == "exception"]
    assert [(span.args["price"], span.args["kind"], span.result) for span in left] == [(-4, "small", None)]


def test_random_values_against_what_the_program_prints(bench, build):
    pytest.importorskip("elftools")
    ran, trace = same(bench, build("oracle", native_values.ORACLE, "-O2", "-g"), "--level", "args", "--stack-bytes", "24")
    spans = list(trace.spans(function="step"))
    printed = [line.split() for line in ran.out.splitlines()]
    assert len(spans) == len(printed) == 300
    for span, line in zip(spans, printed):
        numbers = [type(value)(text) for value, text in zip(span.args.values(), line)]
        numbers[3] = span.args["d"] if abs(span.args["d"] - numbers[3]) <= 1e-6 * abs(numbers[3]) else numbers[3]
        assert (list(span.args.values()), span.result) == (numbers, int(line[9]))


def test_without_debug_information_registers_speak(bench, build):
    ran, trace = same(bench, build("values", native_values.C, "-O1"), "--args")
    (ints,) = trace.spans(function="ints")
    names = [f"arg{n}" for n in range(6)] + [f"xmm{n}" for n in range(8)]
    assert list(ints.args) == names
    assert [int(ints.args[name], 16) & 0xFFFF for name in names[:6]] == [value & 0xFFFF for value in (-1, 200, -300, 60000, -70000, 4000000000)]
    (pair,) = trace.spans(function="pair")
    assert (pair.args["xmm0"], pair.result["xmm0"], pair.result["xmm1"]) == ("0x4004000000000000", "0x4004000000000000", "0xc004000000000000")
    assert not any("parameters" in symbol for symbol in manifest_of(ran)["symbols"])


def test_arguments_beyond_the_registers_need_the_stack(bench, build):
    pytest.importorskip("elftools")
    _, trace = same(bench, build("values", native_values.C, "-O1", "-g"), "--args", "--stack-bytes", "8")
    (ints,) = trace.spans(function="ints")
    assert (ints.args["f"], ints.args["g"], ints.args["h"], ints.args["i"]) == (4000000000, -5000000000, "…", "…")


def test_stacks_that_end(bench, build):
    """FORBIDDEN: one byte read beyond what is mapped. The stack bytes are what stands there, as far as there is a stack."""
    _, trace = same(bench, build("edge", native_values.EDGE, "-O1", "-g", "-fno-omit-frame-pointer"), "--stack-bytes", "256", "--backtrace")
    outers = [event.detail for event in trace.events(function="outer", kind="call")]
    assert [len(detail["stack"]) for detail in outers] == [min(at, 256) for at in range(512, -1, -16) for _ in range(2)]
    assert all(set(detail["stack"]) <= {0x5A} for detail in outers[::2])
    assert all(len(event.detail["stack"]) == 256 for event in trace.events(function="main", kind="call"))
    edges = [event.detail for event in trace.events(function="edge", kind="call")]
    assert {tuple(one["in"] for one in detail["backtrace"]) for detail in edges} == {("inner", "outer", "on", "main", None)}
    for detail in edges:
        places = [one["returns_to"].partition("+")[0] for one in detail["backtrace"]]
        assert places[:4] == ["inner", "outer", "on", "main"] and places[4].startswith("0x")
        assert "args" not in detail and "value" not in detail


def test_texts_are_followed_only_when_asked(bench, build):
    """FORBIDDEN: a pointer followed to where nothing is; a secret in the file."""
    pytest.importorskip("elftools")
    program = build("texts", native_values.TEXTS, "-O1", "-g")
    ran, trace = same(bench, program, "--strings")
    said = [span.args["text"] for span in trace.spans(function="say")]
    assert said == ["h\u00e4llo", "", "l" * 64 + "…", "e" * 6 + "…", "0x8", "0x0", "0x4141414141414141"]
    assert all(span.args["password"] == "***" and span.args["raw"].startswith("0x") for span in trace.spans(function="say"))
    assert not any(b"geheim" in file.read_bytes() for file in ran.path.glob("*/*/detail.atf"))
    bench.root = bench.path / "second"
    _, trace = same(bench, program, "--args")
    assert all(span.args["text"].startswith("0x") for span in trace.spans(function="say"))


@needs_gxx
def test_only_calls_that_last(bench, build):
    ran, trace = same(bench, build("sleeps.cpp", native_values.SLEEPS, "-O1", "-g"), "--min-duration", "20ms")
    native = manifest_of(ran)["native"]
    spans = list(trace.spans())
    assert native["min_duration_ns"] == 20_000_000
    assert native["filtered"] + len(spans) == 1 + 50 * 1001 + 5 + 4 * 2 + 2
    assert all(span.duration_ns > 19_900_000 for span in spans)
    names = [span.function.name for span in spans]
    assert (names.count("main"), names.count("slow")) == (1, 7)
    assert {span.parent.function.name for span in spans if span.function.name == "slow"} == {"batch", "thrower"}
    left = [span for span in spans if span.function.name == "thrower"]
    assert [(span.status, span.parent.function.name) for span in left if span.child_count] == [("exception", "tries")] * 2


@needs_gxx
def test_what_lasts_has_its_details(bench, build):
    pytest.importorskip("elftools")
    program = build("sleeps.cpp", native_values.SLEEPS, "-O1", "-g")
    _, trace = same(bench, program, "--min-duration", "20ms", "--args", "--backtrace")
    batches = [(span.args["k"], span.result) for span in trace.spans(function="batch") if any(child.function.name == "slow" for child in span.children)]
    assert batches == [(k, 1000) for k in range(0, 50, 10)]
    slow = next(iter(trace.events(function="slow", kind="call"))).detail
    assert [one["in"] for one in slow["backtrace"]] == ["batch", "main", None]


@needs_frida
def test_attached(bench, build):
    pytest.importorskip("elftools")
    with running(compile_program(bench.path, "busy")) as process:
        process.stdout.readline()
        done = subprocess.run(attach_words(bench, process.pid, "--duration", "0.3", "--args", "--json"), env=bench.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        process.stdin.close()
        process.stdin = None
        assert process.stdout.readline() == "whole\n"
    path = json.loads(done.stderr.strip().splitlines()[-1])["path"]
    shown = bench.atf("spans", "--json", "-n", "50", "--function", "step", path)
    spans = [span for span in json.loads(shown.out)["spans"] if span["args"]]
    assert spans
    assert all(span["result"] == span["args"]["x"] + 1 for span in spans if span["status"] == "ok")


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        (["true"], ["--stack-bytes", "257"], "--stack-bytes 257: from 0 to 256"),
        (["true"], ["--min-duration", "2h"], "--min-duration: up to one hour"),
        (["true"], ["--min-duration", "1us", "--level", "calls"], "--min-duration needs returns"),
        (["true"], ["--min-duration", "soon"], "is not a duration"),
        (["true"], ["--level", "c"], "recorded at calls, returns or args"),
        ([sys.executable, "-c", "pass"], ["--args", "--min-duration", "1us"], "--args, --min-duration: for compiled programs"),
        ([sys.executable, "-c", "pass"], ["--stack-bytes", "8"], "--stack-bytes: for compiled programs"),
        ([sys.executable, "-c", "pass"], ["--backtrace"], "--backtrace: for compiled programs"),
    ],
)
def test_refused(bench, words, options, said):
    ran = bench.record(*words, options=(*QUIET, *options))
    assert ran.status == 2 and said in ran.err
    assert not list(bench.root.glob("session_*"))
