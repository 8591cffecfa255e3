"""The C harnesses of tests/native: how they are compiled, plain and under sanitizers, run and judged."""

import ast
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What the drain consists of is written down once, for the build.
DRAIN = [ROOT / f"_core/{name}.c" for name in ast.literal_eval(re.search(r"^DRAIN = (\(.*?\))$", (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL)[1])]
KINDS = {
    "plain": ["-O2", "-g"],
    "tsan": ["-O1", "-g", "-fsanitize=thread"],
    "broken": ["-O1", "-g", "-fsanitize=thread", "-DATF_BROKEN"],
    "asan": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
}
CC = os.environ.get("CC", "cc").split()
# A preloaded sanitizer (make tsan) is for the interpreter, not for the compiler and not for programs that link their own.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in ("LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS")}
ENVIRONMENT["TSAN_OPTIONS"] = "exitcode=66 halt_on_error=1"


def builder(place, sources, *flags, of_kind=None):
    """build(kind) → path of the program, built once. of_kind: {kind: more flags}."""
    if not shutil.which(CC[0]):
        pytest.skip("there is no C compiler")
    built = {}

    def build(kind):
        if kind not in built:
            more = [*KINDS[kind], *(of_kind or {}).get(kind, ())]
            command = [*CC, *flags, "-D_GNU_SOURCE", "-Wall", "-Werror", "-fno-strict-aliasing", f"-I{ROOT / '_core'}", *more]
            done = subprocess.run([*command, *map(str, sources), "-pthread", "-o", place / kind], env=ENVIRONMENT, capture_output=True, text=True)
            if "cannot find" in done.stderr and "san" in done.stderr:
                pytest.skip(f"this compiler has no sanitizer library: {done.stderr.splitlines()[0]}")
            assert done.returncode == 0, done.stderr
            built[kind] = place / kind
        return built[kind]

    return build


def run(program, arguments, tmp_path, timeout=120):
    fixed = ["setarch", "-R"] if subprocess.run(["setarch", "-R", "true"], capture_output=True).returncode == 0 else []
    where = tmp_path / "files"
    where.mkdir()
    try:
        return subprocess.run([*fixed, program, where, *arguments.split()], env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout)
    finally:
        shutil.rmtree(where)


def assert_clean(done):
    assert done.returncode == 0, done.stderr[-6000:] + done.stdout
    assert "FORBIDDEN" not in done.stderr and "ThreadSanitizer" not in done.stderr
    assert re.search(r"checksum [0-9a-f]{16}$", done.stdout.strip())


def assert_caught(done):
    """With every release and acquire weakened to relaxed the same run is reported: the checker sees such mistakes."""
    assert done.returncode != 0 and "WARNING: ThreadSanitizer: data race" in done.stderr, done.stderr[-2000:]
