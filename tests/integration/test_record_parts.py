"""``atf record --max-size --max-age --max-parts``: a long recording in whole parts, of real programs."""

import collections
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import partcheck

import atf
from atf.query.client import connect

HOME = pathlib.Path(atf.__file__).parents[1]
PROGRAM = """
import subprocess, sys, threading, time
def leaf(n): return n
def rounds(count):
    for n in range(count):
        leaf(n)
        if n % 1000 == 0: time.sleep(0.002)
def worker(): rounds(COUNT)
def main():
    threads = [threading.Thread(target=worker) for _ in range(2)]
    for each in threads: each.start()
    for each in threads: each.join()
if sys.argv[1:] == ["child"]:
    rounds(COUNT)
else:
    child = subprocess.Popen([sys.executable, __file__, "child"])
    main()
    child.wait()
"""
FOR_A_WHILE = """
import time
def f(): pass
end = time.monotonic() + 2.3
while time.monotonic() < end:
    f()
    time.sleep(0.001)
"""
NATIVE = """
#include <time.h>
#define KEEP __attribute__((noinline, noclone, used))
static volatile long sink;
KEEP void leaf(int i) { sink += i; }
KEEP void rounds(int n) {
    struct timespec nap = {0, 2000000};
    for (int i = 0; i < n; i++) {
        leaf(i);
        if (i % 4000 == 0) nanosleep(&nap, 0);
    }
}
int main(void) { rounds(100000); return 3; }
"""


@pytest.fixture(autouse=True)
def own_runtime_directory(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", str(HOME))


def run(tmp_path, *words, check=True):
    ran = subprocess.run([sys.executable, "-m", "atf", *words], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert not check or ran.returncode == 0, ran.stderr
    return ran


def record(tmp_path, *options, count=20_000, program=PROGRAM):
    (tmp_path / "program.py").write_text(program.replace("COUNT", str(count)))
    said = run(tmp_path, "record", "-o", "out", "--ring-size", "64K", "--policy", "block", *options, "--", sys.executable, "program.py").stderr
    (session,) = (tmp_path / "out").iterdir()
    return session, said


def calls_of(session, name):
    """How often functions of this name were called and returned, over all parts, without what parts tell again; and how many are told again."""
    kinds, again = collections.Counter(), 0
    for part in sorted(session.glob("part_*")):
        with atf.open(part) as trace:
            for thread in trace.threads:
                _, carried = partcheck.head_of(thread.events)
                assert thread.entered == carried or not carried
                again += carried
                for event in trace.events(function=name, thread=thread):
                    if event.index_seq > carried or not carried:
                        kinds[event.kind] += 1
    return kinds, again


def test_every_part_is_a_trace_and_together_they_are_the_recording(tmp_path):
    session, said = record(tmp_path, "--max-size", "256K")
    parts = sorted(session.glob("part_*"))
    assert len(parts) > 5 and f"({len(parts)} parts)" in said
    manifests = [partcheck.check_part(part) for part in parts]
    kinds, again = calls_of(session, "leaf")
    assert kinds == {"call": 60_000, "return": 60_000} and again > len(parts)
    seen = partcheck.threads_over_parts(session)
    assert all(event[3] != partcheck.GAP for records in seen.values() for event, _ in records)
    # The list, the manifests and the links between them.
    listed = json.loads((session / "parts.json").read_text())
    assert listed["complete"] and listed["of"] == len(parts) == len(listed["parts"]) and listed["removed"]["parts"] == 0
    for row, found in zip(listed["parts"], manifests, strict=True):
        assert row["processes"] == len(found) and row["status"] == "complete"
        assert row["produced"] == sum(one["metrics"]["produced"] for one in found.values()) == row["written"]
    assert sum(row["produced"] for row in listed["parts"]) == sum(len(records) for records in seen.values())
    for number, found in enumerate(manifests, 1):
        for pid, one in found.items():
            assert one["part"]["previous"] == (f"part_{number - 1:04d}" if number > 1 else None)
            assert one["part"]["continues"] == (number > 1 and pid in manifests[number - 2])
            goes_on = number < len(manifests) and pid in manifests[number]
            assert (one["part"]["next"] is not None) == goes_on and (one["exit"] is None or not goes_on)
    # A reader: calls that are in progress at a boundary are in both parts.
    with atf.open(parts[len(parts) // 2]) as trace:
        begun = [span.function.name for span in trace.spans() if not span.start_known]
        assert {"rounds", "worker", "main"} <= set(begun) and trace.info["lost"] == {}
        assert "open" in {span.status for span in trace.spans(function="main")}, "the child's may have ended in this part"
    assert f"{len(parts)} parts in" in run(tmp_path, "info", str(session)).stdout
    # The query server.
    with connect(tmp_path / "out") as client:
        rows = client.call("traces.list", {})["traces"]
        assert {row["traceId"] for row in rows} == {f"{session.name}/{part.name}" for part in parts}
        second = next(row for row in rows if row["part"]["number"] == 2)
        assert second["part"] == {"number": 2, "of": len(parts), "previous": f"{session.name}/part_0001", "next": f"{session.name}/part_0003"}
        info = client.call("trace.info", {"traceId": second["traceId"]})
        assert info["eventCount"] == second["eventCount"]


def test_the_oldest_parts_go(tmp_path):
    session, _ = record(tmp_path, "--max-size", "256K", "--max-parts", "3")
    listed = json.loads((session / "parts.json").read_text())
    parts = sorted(session.glob("part_*"))
    assert [part.name for part in parts] == [row["path"] for row in listed["parts"]] and len(parts) == 3
    assert listed["removed"]["parts"] == listed["of"] - 3 > 0
    for part in parts:
        partcheck.check_part(part)
    total = run(tmp_path, "record", "-o", "whole", "--json", "--", sys.executable, "program.py").stderr
    events = json.loads(total.splitlines()[-1])["events"]
    assert abs(listed["removed"]["produced"] + sum(row["produced"] for row in listed["parts"]) - events) < 200, "imports may differ by a few calls"


def test_by_age(tmp_path):
    session, _ = record(tmp_path, "--max-age", "1s", program=FOR_A_WHILE)
    parts = sorted(session.glob("part_*"))
    assert len(parts) >= 3
    times = [json.loads(next(part.glob("pid_*/manifest.json")).read_text()) for part in parts]
    lasted = [one["time_end_ns"] - one["time_start_ns"] for one in times]
    assert lasted[0] > 0.5e9 and lasted[1] > 0.9e9 and sum(lasted) < 10e9, lasted


@pytest.mark.skipif(not shutil.which("gcc") or sys.platform != "linux", reason="needs a C compiler")
def test_a_compiled_program(tmp_path):
    (tmp_path / "program.c").write_text(NATIVE)
    subprocess.run(["gcc", "-O1", "-g", "-o", "program", "program.c"], cwd=tmp_path, check=True)
    ran = run(tmp_path, "record", "-o", "out", "--ring-size", "64K", "--policy", "block", "--max-size", "512K", "--", "./program", check=False)
    assert ran.returncode == 3, ran.stderr
    (session,) = (tmp_path / "out").iterdir()
    parts = sorted(session.glob("part_*"))
    manifests = [partcheck.check_part(part) for part in parts]
    assert len(parts) > 5 and calls_of(session, "leaf")[0] == {"call": 100_000, "return": 100_000}
    names = [{one["name"] for one in next(iter(found.values()))["symbols"]} for found in manifests]
    assert all(one <= {"leaf", "rounds", "main"} for one in names) and names[2] == {"leaf", "rounds", "main"}
    assert all("line" in one for found in manifests for one in next(iter(found.values()))["symbols"])
    with atf.open(parts[2]) as trace:
        assert [span.function.name for span in trace.spans() if not span.start_known][:2] == ["main", "rounds"]


def test_what_does_not_go_together_is_refused(tmp_path):
    for options, said in (
        (("--max-size", "1M", "--trigger", "crash"), "keep everything"),
        (("--max-age", "10s", "--flight", "10s"), "keep everything"),
        (("--max-parts", "3"), "--max-size or --max-age"),
        (("--max-size", "many"), "size 'many'"),
        (("--max-size", "1K"), "at least 64K"),
        (("--max-size", "1M", "--max-parts", "1"), "at least 2"),
    ):
        ran = run(tmp_path, "record", "-o", "out", *options, "--", sys.executable, "-c", "pass", check=False)
        assert ran.returncode == 2 and said in ran.stderr and not (tmp_path / "out").exists(), ran.stderr


def test_a_recorder_that_is_killed_between_parts(tmp_path):
    assert partcheck.kill_once(tmp_path, 0.1 + random.Random(7).random() * 0.2) > 1


def test_a_program_that_is_killed_between_parts(tmp_path):
    """What it committed is there, and the last part is complete."""
    (tmp_path / "program.py").write_text(partcheck.PROGRAM.replace("60000", "6000000"))
    words = ["record", "-q", "--include", "nothing", "-o", "out", "--ring-size", "64K", "--policy", "block", "--max-size", "64K", "--"]
    with subprocess.Popen([sys.executable, "-m", "atf", *words, sys.executable, "program.py"], cwd=tmp_path, stdout=subprocess.PIPE) as recorder:
        assert recorder.stdout.readline() == b"ready\n"
        partcheck.parts_begin(tmp_path / "out")
        time.sleep(0.05)
        (file,) = (tmp_path / "run").glob("atf/*/*.process")
        os.kill(int(file.name.partition("-")[0]), signal.SIGKILL)
        assert recorder.wait(30) == 128 + signal.SIGKILL
    (session,) = (tmp_path / "out").iterdir()
    parts = sorted(session.glob("part_*"))
    assert len(parts) > 1
    for part in parts:
        partcheck.check_part(part)
    for (_, number), records in partcheck.threads_over_parts(session).items():
        numbers = [said["attributes"]["number"] for _, said in records if said and "number" in said["attributes"]]
        assert not number or (numbers == list(range(0, 3 * len(numbers), 3)) and len(numbers) > 10)
