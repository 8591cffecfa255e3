"""A recorder that runs on and on, in parts, and one that is killed on its way from one into the next.

FORBIDDEN: memory of the recorder or of the program that grows with time; a count that is wrong by one, in a part or over all of them; a
record in two parts, or in none; a part that is no complete trace by itself.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import partcheck

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.stress


@pytest.fixture(autouse=True)
def own_runtime_directory(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


# One thread goes on from the first part to the last; all others live for a moment.
SOAK = """
import atf, threading, time
end = time.monotonic() + SECONDS
count = threads = 0
def short():
    with atf.span("short"):
        for number in range(20): atf.event("short", number=number)
def steady():
    global count
    with atf.span("steady"):
        while time.monotonic() < end:
            for _ in range(50):
                atf.event("numbered", number=count, text="x" * 100)
                count += 1
            time.sleep(0.002)
one = threading.Thread(target=steady)
one.start()
while time.monotonic() < end:
    some = [threading.Thread(target=short) for _ in range(8)]
    for each in some: each.start()
    for each in some: each.join()
    threads += 8
    time.sleep(0.02)
one.join()
print(count, threads, flush=True)
"""


def own_bytes(pid):
    """Resident memory of a process's own. Rings are shared memory of a fixed size, of which a burst touches pages for the first time at any hour."""
    _, resident, shared, *_ = map(int, pathlib.Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def test_a_soak_in_parts_leaves_memory_flat(tmp_path):
    """An hour in a minute (ATF_SOAK_S says how long): thousands of threads, and parts that come and go."""
    seconds = int(os.environ.get("ATF_SOAK_S", "60"))
    (tmp_path / "program.py").write_text(SOAK.replace("SECONDS", str(seconds)))
    words = ["record", "-q", "--include", "nothing", "--out", str(tmp_path / "out"), "--max-age", "1s", "--max-size", "4M", "--max-parts", "4"]
    command = [sys.executable, "-m", "atf", *words, "--", sys.executable, str(tmp_path / "program.py")]
    sizes, over = {"recorder": [], "program": []}, threading.Event()
    with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as recording:

        def watch():
            while not over.wait(0.25):
                try:
                    sizes["recorder"].append(own_bytes(recording.pid))
                    sizes["program"] += [own_bytes(int(p.name.partition("-")[0])) for p in (tmp_path / "run").glob("atf/*/*.process")]
                except OSError:
                    continue

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            count, threads = map(int, recording.stdout.readline().split())
        finally:
            over.set()
            watcher.join()
        _, err = recording.communicate(timeout=60)
    assert recording.returncode == 0 and not err, err
    (session,) = (tmp_path / "out").iterdir()
    found = json.loads((session / "parts.json").read_text())
    grown = {}
    for who, some in sizes.items():
        third = len(some) // 3
        grown[who] = max(some[-third:]) - max(some[third : 2 * third])
        print(f"\n{who}: memory {min(some) >> 20} to {max(some) >> 20} MiB, last third against the one before it: {grown[who] >> 10} KiB", end="")
    print(f"\n{count} events of one thread, {threads} threads, {found['of']} parts")
    assert max(grown.values()) < 2 << 20, grown
    assert len(list(session.glob("part_*"))) == len(found["parts"]) <= 4 and found["of"] >= seconds // 2
    rows = [*found["parts"], found["removed"]]
    spans = 2 * (threads + 1)
    assert sum(row["produced"] for row in rows) == count + 20 * threads + spans
    assert all(row["written"] + row["dropped"] + row["filtered"] == row["produced"] for row in rows)
    for part in found["parts"]:
        partcheck.check_part(session / part["path"])


@pytest.mark.parametrize("seed", range(100, 140))
def test_a_recorder_that_is_killed_between_parts_often(tmp_path, seed):
    partcheck.kill_once(tmp_path, 0.05 + random.Random(seed).random() * 0.6)
