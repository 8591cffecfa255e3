"""``atf record --native -- python …``: the Python and the native calls of a thread are one tree, in the order of time."""

import json
import struct
import subprocess
import sys
import textwrap

import pytest

from native_bench import manifest_of, needs_agent, needs_gcc

pytestmark = [needs_gcc, needs_agent]
CALL, RETURN, EXCEPTION, YIELD, RESUME = 1, 2, 3, 5, 6
NATIVE = 1 << 52

# Each function notes its entry and its exit; what the program prints is what the lanes must say, record by record.
LIBRARY = r"""
#include <stddef.h>
#include <setjmp.h>
#include <string.h>
#define KEEP __attribute__((noinline, noclone, used))
typedef int (*callback)(int);
static __thread char log_[1 << 20];
static __thread size_t at;
KEEP void note(const char *what) { size_t n = strlen(what); if (at + n + 2 > sizeof log_) at = 0; memcpy(log_ + at, what, n); log_[at + n] = '\n'; at += n + 1; }
KEEP const char *noted(void) { log_[at] = 0; return log_; }
KEEP int leaf(int n) { note("+leaf"); int r = n + 1; note("-leaf"); return r; }
KEEP int middle(callback back, int n) { note("+middle"); int r = leaf(n) + back(n) + leaf(n); note("-middle"); return r; }
KEEP int twice(callback back, int n) { note("+twice"); int r = middle(back, n) + middle(back, n + 1); note("-twice"); return r; }
KEEP int down(callback back, int n) { note("+down"); int r = n ? back(n - 1) + 1 : 0; note("-down"); return r; }
static jmp_buf out;
KEEP int jumps(int n) { note("+jumps"); longjmp(out, n); }
KEEP int lands(callback back, int n) { note("+lands"); int r = setjmp(out); if (!r) jumps(n); r += back(n); note("-lands"); return r; }
"""
PROGRAM = r"""
import ctypes, json, sys, threading
lib = ctypes.CDLL(sys.argv[1])
lib.noted.restype = ctypes.c_char_p
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
note, noted, leaf = lib.note, lib.noted, lib.leaf

def inner(n):
    note(b"+inner")
    r = leaf(n)
    note(b"-inner")
    return r

def back(n):
    note(b"+back")
    r = inner(n) if n % 2 else n
    note(b"-back")
    return r

def counting(n):
    note(b"+counting")
    r = lib.down(COUNTING, n)
    note(b"-counting")
    return r

def recurse(n):
    note(b"+recurse")
    r = recurse(n - 1) if n else leaf(n)
    note(b"-recurse")
    return r

def raises(n):
    note(b"+raises")
    note(b"!raises")
    raise ValueError(leaf_of(n))

def leaf_of(n):
    return n

def through(n):
    note(b"+through")
    try:
        raises(n)
    except ValueError:
        r = leaf(n)
    note(b"-through")
    return r

def numbers(n):
    for i in range(n):
        yield lib.leaf(i)

BACK, COUNTING = CALLBACK(back), CALLBACK(counting)
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    directory = tmp_path_factory.mktemp("library")
    (directory / "nest.c").write_text(LIBRARY)
    subprocess.run(["gcc", "-O1", "-g", "-shared", "-fPIC", "-pthread", "nest.c", "-o", "libnest.so"], cwd=directory, check=True)
    return str(directory / "libnest.so")


def lanes(ran):
    """{tid: [(name, native, kind, depth, time)]} in the order of the files."""
    found = {}
    for process in ran.path.glob("pid_*"):
        names = {int(symbol["function_id"], 16): symbol["name"] for symbol in json.loads((process / "manifest.json").read_text())["symbols"]}
        for index in sorted(process.glob("thread_*/index.atf")):
            content = index.read_bytes()
            end = struct.unpack_from("<Q", content, 40)[0]
            records = struct.iter_unpack("<QQIIII", content[64:end])
            for ticks, function, tid, kind, depth, _ in records:
                found.setdefault(tid, []).append((names[function], function >= NATIVE, kind, depth, ticks))
    return found


def whole(lane):
    """Time never goes back, every depth is that of a tree, and every exit is its call's."""
    assert [one[4] for one in lane] == sorted(one[4] for one in lane)
    stack = []
    for name, _, kind, depth, _ in lane:
        if kind in (CALL, RESUME):
            stack.append(name)
            assert len(stack) == depth, (name, stack)
        elif kind in (RETURN, EXCEPTION, YIELD):
            assert len(stack) == depth, (name, stack)
            assert stack.pop() == name
    assert stack == []
    return lane


def story(lane, without=("<module>", "leaf_of")):
    """As the program notes it."""
    signs = {CALL: "+", RETURN: "-", EXCEPTION: "!"}
    return [signs[kind] + name for name, _, kind, _, _ in lane if name not in without]


def record(bench, library, body, *options, level="returns"):
    source = PROGRAM + textwrap.dedent(body)
    options = ("--quiet", "--level", level, "--native", "--module", library, "--include", "__main__", "--exclude", "*::note*", *options)
    return bench.python(source, library, options=options)


@pytest.mark.parametrize(
    "body",
    [
        "lib.twice(BACK, 1)",
        "lib.twice(BACK, 2); inner(1); lib.leaf(3); counting(60); recurse(100); through(1); lib.middle(BACK, 1); through(2)",
    ],
    ids=["callback", "recursion and exceptions"],
)
def test_the_lane_is_what_the_program_noted(bench, library, body):
    ran = record(bench, library, body + "\nprint(noted().decode(), end='')")
    assert (ran.status, ran.err) == (0, "")
    (lane,) = lanes(ran).values()
    assert story(whole(lane)) == ran.out.split()
    assert {name for name, native, *_ in lane if native} <= {"leaf", "middle", "twice", "down"}
    assert ran.trace().check() == []


def test_threads_have_a_lane_each_for_both_kinds(bench, library):
    ran = record(
        bench,
        library,
        """
        told = {}
        def run():
            for n in range(40):
                lib.twice(BACK, n)
                counting(3)
            told[threading.get_native_id()] = noted().decode().split()
        threads = [threading.Thread(target=run, name=f"worker-{i}") for i in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(json.dumps(told))
        """,
    )
    found = lanes(ran)
    told = {int(tid): lines for tid, lines in json.loads(ran.out).items()}
    assert len(told) == 3 and set(told) < set(found)
    for tid, lines in told.items():
        assert story(whole(found[tid]), without=("<module>", "run")) == lines
    threads = manifest_of(ran)["threads"]
    assert {thread["name"] for thread in threads} == {"MainThread", "worker-0", "worker-1", "worker-2"}
    assert sum(thread["lost"] for thread in threads) == 0


def test_native_frames_stand_under_the_python_call_in_the_tree(bench, library):
    ran = record(bench, library, "lib.twice(BACK, 1)")
    rows = []
    for line in bench.atf("tree", str(ran.path)).out.splitlines()[1:]:
        name = next(word for word in line.split() if "." in word)
        rows.append((line.index(name) // 3, name))
    assert rows == [
        (0, "__main__.<module>"),
        (1, "libnest.so.twice"),
        (2, "libnest.so.middle"),
        (3, "libnest.so.leaf"),
        (3, "__main__.back"),
        (4, "__main__.inner"),
        (5, "libnest.so.leaf"),
    ]


def test_a_generator_and_native_calls(bench, library):
    ran = record(bench, library, "print(sum(numbers(5)), noted().decode().count('+leaf'))")
    assert ran.out.split() == ["15", "5"]
    (lane,) = lanes(ran).values()
    assert [name for name, native, kind, depth, _ in whole(lane) if native and kind == CALL] == ["leaf"] * 5
    assert {depth for _, native, _, depth, _ in lane if native} == {3}


def test_longjmp_over_native_frames_below_python(bench, library):
    ran = record(bench, library, "lib.lands(BACK, 3); inner(1)\nprint(noted().decode(), end='')")
    (lane,) = lanes(ran).values()
    assert story(lane) == ran.out.split()
    depths = [(name, depth) for name, _, kind, depth, _ in lane if kind == CALL]
    assert depths[1:] == [("lands", 2), ("jumps", 3), ("back", 3), ("inner", 4), ("leaf", 5), ("inner", 2), ("leaf", 3)]


def test_arguments_and_native_calls(bench, library):
    ran = record(bench, library, "lib.twice(BACK, 1); through(1)\nprint(noted().decode(), end='')", level="args")
    (lane,) = lanes(ran).values()
    assert story(whole(lane)) == ran.out.split()
    trace = ran.trace()
    assert trace.check() == []
    assert [span.args for span in trace.spans(function="back")] == [{"n": 1}, {"n": 2}]
    (span,) = trace.spans(function="raises")
    assert (span.status, span.exception["type"]) == ("exception", "builtins.ValueError")


@pytest.mark.guard
def test_an_exception_that_nobody_catches_marks_a_crash(bench, library):
    """The event that says so is one of the common lane: in its place, with a number of its own."""
    ran = record(bench, library, "lib.twice(BACK, 1)\nraise KeyError('gone')", "--trigger", "crash")
    trace = ran.trace()
    (lane,) = lanes(ran).values()
    assert trace.check() == [] and ran.status == 1 and "KeyError" in ran.err
    assert [name for name, *_ in lane][-1] == "crash"
    (manifest,) = bench.root.glob("session_*/pid_*/manifest.json")
    (window,) = json.loads(manifest.read_text())["windows"]
    assert window["trigger"] == "crash", window


def test_spans_of_the_users_own_nest_too(bench, library):
    ran = record(
        bench,
        library,
        """
        import atf
        with atf.span("outer", color="red"):
            lib.leaf(1)
            with atf.span("inside"):
                atf.event("now")
                lib.middle(BACK, 1)
        """,
    )
    (lane,) = lanes(ran).values()
    depths = [(name, depth) for name, _, kind, depth, _ in lane if kind == CALL]
    assert depths == [("<module>", 1), ("outer", 2), ("leaf", 3), ("inside", 3), ("middle", 4), ("leaf", 5), ("back", 5), ("inner", 6), ("leaf", 7), ("leaf", 5)]


def test_a_forked_child_records_python_alone(bench, library):
    ran = record(
        bench,
        library,
        """
        import os
        lib.leaf(1)
        child = os.fork()
        lib.leaf(2)
        inner(3)
        if child:
            status = os.waitpid(child, 0)[1]
            print(status, noted().decode().count("+leaf"), flush=True)
        else:
            os._exit(0)
        """,
    )
    assert ran.out.split() == ["0", "3"]
    counts = {tid: dict.fromkeys(("leaf", "inner"), 0) for tid in lanes(ran)}
    for tid, lane in lanes(ran).items():
        for name, _, kind, _, _ in lane:
            if kind == CALL and name in counts[tid]:
                counts[tid][name] += 1
    assert sorted(count["leaf"] for count in counts.values()) == [0, 3]
    assert [count["inner"] for count in counts.values()] == [1, 1]


def test_the_end_of_the_recording_takes_the_hooks_out(bench, library):
    ran = record(
        bench,
        library,
        """
        import time
        def code():
            return ctypes.string_at(ctypes.cast(lib.leaf, ctypes.c_void_p), 16).hex()
        before, until = code(), time.monotonic() + 20
        while code() == before and time.monotonic() < until:
            inner(1)
        print(before[:2], code()[:2] != "e9", inner(2))
        """,
        "--duration",
        "1.5s",
    )
    assert ran.out.split() == ["e9", "True", "3"]
    counts = {name: [kind for one, _, kind, *_ in lane if one == name] for lane in lanes(ran).values() for name in ("inner", "leaf")}
    assert all(0 <= kinds.count(CALL) - kinds.count(RETURN) <= 1 and len(kinds) > 2 for kinds in counts.values())


@pytest.mark.skipif(not getattr(sys.modules.get("_json"), "__file__", None), reason="this interpreter has the _json module built in")
def test_an_extension_module_by_its_name_is_hooked_when_it_is_imported(bench):
    source = """
        import json
        def read():
            return json.loads('{"a": [1, 2, {"b": "c"}]}')
        print(read())
    """
    ran = bench.python(textwrap.dedent(source), options=("--json", "--native", "--module", "_json", "--include", "__main__", "--include", "json.*"))
    assert ran.status == 0 and ran.summary["native"]["hooked"] > 5 and not ran.summary["native"]["waiting"]
    (lane,) = lanes(ran).values()
    stack, below = [], {}
    for name, _, kind, _, _ in whole(lane):
        if kind == CALL:
            below.setdefault(name, stack[-1] if stack else None)
            stack.append(name)
        else:
            stack.pop()
    assert below["scanner_call"] == "JSONDecoder.raw_decode"
    assert any(name.startswith("_parse_object") or name == "scan_once_unicode" for name in below)


def test_what_cannot_be_recorded_natively_is_told_and_python_goes_on(bench):
    ran = bench.python("def f(): pass\nf()", options=("--native", "--module", "no-such-thing", "--include", "__main__"))
    assert ran.status == 0
    assert "recorded in Python alone" in ran.err and "--module no-such-thing: no such module" in ran.err
    assert [span.function.name for span in ran.trace().spans(function="f")] == ["f"]


def test_native_says_what_it_needs(bench):
    ran = bench.python("pass", options=("--native",))
    assert ran.status == 2 and "--native: say which native code" in ran.err
    ran = bench.python("pass", options=("--module", "_json"))
    assert ran.status == 2 and "add --native" in ran.err
