"""The house: which room may import which, how long files are, and what must not stand in them."""

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CODE = [p for room in ("_core", "atf", "query", "tests", "perf", "docs") for p in sorted((ROOT / room).rglob("*")) if p.is_file()]
CODE = [p for p in CODE if not {"__pycache__", "build"} & set(p.parts) and p.suffix in (".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".S")]
CODE = [p for p in CODE if not (p.suffix == ".c" and p.with_suffix(".pyx").exists())]  # written by Cython in a coverage build

# The halves of _core. A module that is named in neither list fails a test: whoever adds one says where it belongs.
TRUTH = {"errors", "layout", "format", "atomics", "clock", "moments", "severity"}
AT_REST = {"batch", "sums", "pages", "reader", "filemap", "idmap", "totals", "merge", "spans", "index", "journal"}
AT_REST |= {"busguard", "bus", "mappings"}
AT_REST |= {"paths", "timeline"}
AT_REST |= {"index_build", "index_write", "index_marks", "index_walk"}
LIVE = {"segment", "ring", "lane", "control", "registry", "recorder", "producer", "writer", "drain", "vm"}
LIVE |= {"metrics", "flight", "history", "policy", "windows", "turns", "msgpack_peek", "asked", "pressure", "cells", "detail"}
LIVE |= {"parts", "progress", "rows", "sigwait"}
LIVE |= {"collector", "decision", "eventbytes", "identity", "newest", "slots", "traceevent", "traceparent"}
LIVE |= {"slicer", "slice", "slice_clock", "slice_rings", "slice_files", "recycle"}
LIVE |= {"engine", "links", "output", "shm", "source", "timescale", "agent", "bench", "heartbeat", "names", "segments", "joint"}
# From the bottom up: a room imports from its own level and from those before it.
LEVELS = [{"atf._core"}, {"atf.errors", "atf.config"}, {"atf"}, {"atf.query"}, {"atf.cli", "atf.pytest_plugin", "atf.__main__"}]


def imports_of(path: pathlib.Path) -> set[str]:
    """The modules of atf that a file imports or cimports, wherever in it."""
    text = path.read_text()
    found = set()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative import"
                found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    else:
        for match in re.finditer(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^#\n]+)|c?import\s+([\w., ]+))", text, re.M):
            if match[1]:
                found |= {match[1]} | {f"{match[1]}.{name.split()[0]}" for name in match[2].strip("()\n ").split(",") if name.split()}
            else:
                found |= {name.split()[0] for name in match[3].split(",") if name.split()}
    return found


def core_parts(names: set[str]) -> set[str]:
    return {name.split(".")[2] for name in names if name.startswith("atf._core.")}


def included_by(path: pathlib.Path) -> set[str]:
    text = path.read_text()
    quoted = re.findall(r'^\s*#include\s+"([^"]+)"', text, re.M) + re.findall(r'cdef extern from "([^"]+)"', text)
    return {pathlib.PurePath(name).name.split(".")[0] for name in quoted}


def level_of(module: str) -> int:
    matches = [(len(name), number) for number, level in enumerate(LEVELS) for name in level if f"{module}.".startswith(f"{name}.")]
    return max(matches)[1]


CORE = [p for p in CODE if p.is_relative_to(ROOT / "_core") and p.stem != "__init__"]
PYTHON_FACE = [p for p in CODE if p.suffix == ".py" and p.is_relative_to(ROOT / "atf")]


def test_every_core_module_has_its_half():
    homes = {p.relative_to(ROOT / "_core").parts[0].split(".")[0] for p in CORE}
    assert homes <= TRUTH | AT_REST | LIVE


def test_at_rest_never_imports_live():
    for path in CORE:
        part = path.relative_to(ROOT / "_core").parts[0].split(".")[0]
        used = core_parts(imports_of(path)) | included_by(path)
        if part in AT_REST:
            assert not used & LIVE, path
        if part in TRUTH:
            assert not used & (LIVE | AT_REST), path
        if part in LIVE:
            assert not used & AT_REST, path


def test_core_imports_nothing_above_it():
    for path in CORE:
        outside = {n for n in imports_of(path) if n.split(".")[0] == "atf" and n != "atf" and not f"{n}.".startswith("atf._core.")}
        assert not outside, path


def test_imports_go_one_way():
    for path in PYTHON_FACE:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module == "atf":
            continue
        for name in imports_of(path):
            if name.startswith("atf."):
                assert level_of(name) <= level_of(module), f"{path} imports {name}"


@pytest.mark.parametrize(("package", "allowed"), [("sysv_ipc", {"_core/segment.py"}), ("frida", None)])
def test_imported_in_one_file_only(package, allowed):
    users = {str(p.relative_to(ROOT)) for p in CODE if p.parts[len(ROOT.parts)] in ("_core", "atf", "query") and package in imports_of(p)}
    assert len(users) <= 1
    assert allowed is None or users <= allowed


def test_native_headers_never_include_python():
    for path in CODE:
        if path.suffix == ".h" and path.parent == ROOT / "_core":
            assert not re.search(r"#\s*include\s*<Python\.h>", path.read_text()), path


def import_probe(report: str) -> str:
    """What a fresh interpreter reports about `import atf`, which every program pays that merely mentions it."""
    probe = f"import sys, time; before = set(sys.modules); start = time.perf_counter(); import atf; {report}"
    home = None if os.environ.get("ATF_INSTALLED") else ROOT
    return subprocess.run([sys.executable, "-c", probe], cwd=home, capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light():
    heavy = "{'numpy', 'rich', 'msgspec', 'sysv_ipc', 'asyncio', 'multiprocessing'}"
    assert import_probe(f"print(sorted({heavy} & (set(sys.modules) - before)))") == "[]"


def test_import_is_quick():
    """About 1 ms on a quiet machine; the bound is far off, for busy ones."""
    assert min(float(import_probe("print(time.perf_counter() - start)")) for _ in range(3)) < 0.1


@pytest.mark.parametrize("path", CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_is_short(path):
    lines = len(path.read_text().splitlines())
    assert lines <= (80 if path.suffix == ".pxd" else 400)
