"""Every benchmark runs on its own in its quick form and finds its own work right. No time is asserted anywhere."""

import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PERF = Path(__file__).resolve().parents[2] / "perf"


def quick(name: str, tmp_path: Path, *options: str) -> dict:
    out = tmp_path / "out.json"
    command = [sys.executable, str(PERF / f"{name}.py"), "--quick", "--json", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found["benchmark"] == name and found["rounds"] == 1 and found["failures"] == []
    assert done.stdout.startswith(f"{name}: ") and "cores" in done.stdout
    missing = [what for what in found["missing"] if what.startswith("atf")]
    assert not missing, missing  # peers may be missing, atf may not
    return found


def limits(found: dict) -> list[float]:
    return [goal["limit"] for goal in found["goals"]]


def test_ring(tmp_path):
    found = quick("ring", tmp_path)
    assert limits(found) == [60, 50, 14, 30]


def test_drain(tmp_path):
    found = quick("drain", tmp_path, "--threads", "1", "3")
    assert limits(found) == [30, 22, 10, 10]
    assert {"plain write()", "1 producers", "3 producers"} <= set(found["figures"])


def test_bursts(tmp_path):
    """FORBIDDEN: a burst that the rings have room for loses an event, whenever the drain comes."""
    found = quick("bursts", tmp_path)
    assert [goal["value"]["max"] for goal in found["goals"]] == [0]


def test_spans(tmp_path):
    found = quick("spans", tmp_path)
    assert {"atf span, rings", "atf event, 3 attributes, streaming", "atf record from Python, rings"} <= set(found["figures"])


def test_collector(tmp_path):
    """FORBIDDEN: of eight threads' events anything lost below the size, or anything but the newest kept above it."""
    found = quick("collector", tmp_path)
    assert limits(found) == [1000, 1000, 1000, 10, 10, 10]
    assert {"TraceEvent", "record(event), recorded", "deque, lock, uuid4", "logging, QueueHandler, extra="} <= set(found["figures"])


def test_flight(tmp_path):
    """FORBIDDEN: a detail on disk without a mark, or an overload whose losses are not counted to the last record."""
    found = quick("flight", tmp_path)
    assert limits(found) == [1.3, 50, 1000, 10, 4]


def test_counting(tmp_path):
    """FORBIDDEN: fewer statements taken out than count, or a copy without them that sees another number of records."""
    found = quick("counting", tmp_path)
    assert limits(found) == [1, 1, 1, 1] or found["missing"]


def test_save(tmp_path):
    found = quick("save", tmp_path)
    assert found["figures"]["atf bytes per call"] > 0


def test_python_calls(tmp_path):
    found = quick("python_calls", tmp_path, "--runs", "1", "--tools", "atf ring", "atf streaming", "atf c", "atf excluded", "cProfile")
    name = f"python {sys.version_info[0]}.{sys.version_info[1]}"
    samples = found["figures"][name]["samples_ns"]
    assert set(samples) == {"untraced", "untraced again", "atf ring", "atf streaming", "atf c", "atf excluded", "cProfile"}
    lost = next(goal for goal in found["goals"] if "lost" in goal["goal"])
    assert lost["met"], lost


def test_query(tmp_path):
    pytest.importorskip("duckdb")
    found = quick("query", tmp_path)
    assert sorted(limits(found)) == sorted([5, 20] * 2 + [10] * 4 + [1.5, 5, 40, 200] + [5, 0.1] * 5 + [1000] * 2 + [30])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="compiles small programs with gcc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the native agent is for x86-64")
def test_native_calls(tmp_path):
    found = quick("native_calls", tmp_path, "--tools", "atf", "recompiled", "detached")
    assert {35, 1.4, 1.1, 30, 22, 0.3} <= set(limits(found))
    assert {"untraced", "atf, to files", "atf, rings only, 2 threads", "recompiled recorder"} <= set(found["figures"])
    assert {"to files", "hooking"} <= set(found["figures"])
    if importlib.util.find_spec("frida"):
        assert {"detached, less untraced before", "attach 100", "attach 300"} <= set(found["figures"])


@pytest.mark.parametrize("name", ["ring", "drain", "bursts", "spans", "collector", "save", "python_calls", "query", "native_calls"])
def test_help_says_what_is_compared(name):
    done = subprocess.run([sys.executable, str(PERF / f"{name}.py"), "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "--rounds" in done.stdout and "--json" in done.stdout
