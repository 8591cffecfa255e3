"""The doctor's checks against machines that are not as they should be."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from atf._core import segment
from atf.cli import checks, main


def kernel(tmp_path, shmmax=1 << 62, shmall=1 << 62, shmmni=4096, segments=()):
    for name, value in (("shmmax", shmmax), ("shmall", shmall), ("shmmni", shmmni)):
        (tmp_path / name).write_text(f"{value}\n")
    rows = [f"0 {number} 600 {size} 1 2 3" for number, size in enumerate(segments)]
    (tmp_path / "shm").write_text("\n".join(["key shmid perms size cpid lpid nattch", *rows]) + "\n")
    return {check.name: check for check in checks.shared_memory_limits(str(tmp_path), str(tmp_path / "shm"))}


def test_wide_limits_are_fine(tmp_path):
    assert {check.status for check in kernel(tmp_path).values()} == {"ok"}


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("kernel.shmmax", {"shmmax": 32 << 20}),
        ("kernel.shmall", {"shmall": 2 << 10}),
        ("kernel.shmall", {"shmall": (1 << 30) // 4096, "segments": [900 << 20]}),
        ("kernel.shmmni", {"shmmni": 4, "segments": [1, 1]}),
    ],
)
def test_a_narrow_limit_is_found_with_advice(tmp_path, name, limits):
    found = kernel(tmp_path, **limits)
    assert [check.name for check in found.values() if check.status == "warning"] == [name]
    assert name in found[name].advice


def test_limits_that_cannot_be_read_are_no_fault(tmp_path):
    (check,) = checks.shared_memory_limits(str(tmp_path / "none"), str(tmp_path / "none"))
    assert check.status == "note"


def test_a_module_that_does_not_load_is_a_fault(monkeypatch, tmp_path):
    import atf._core

    (tmp_path / "phantom.pyx").touch()
    monkeypatch.setattr(atf._core, "__path__", [str(tmp_path)])
    (check,) = checks.compiled_modules()
    assert check.status == "fault" and "phantom" in check.found and check.advice


def test_a_missing_package_is_a_fault(monkeypatch):
    monkeypatch.setattr(checks, "REQUIRED", ("surely-not-there",))
    assert next(iter(checks.packages())).status == "fault"


KILLED = """
import os, signal, sys
from atf import recording, runtime
session = runtime.new_session({"recorder_pid": sys.argv[1], "recorder_start": sys.argv[2], "drain": "0", "python": "0"})
made = recording.Recording(session, runtime.read(session + "/config"))
made.begin()
print(*made.segments.ids, flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def segments_there(ids):
    rows = [line.split() for line in pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return set(ids) & {row[1] for row in rows}


@pytest.fixture
def killed(tmp_path, monkeypatch):
    """Leaves what a killed process of a session leaves whose recorder is (pid, start); returns its segments' ids."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))

    def leave(recorder_pid, recorder_start=0):
        command = [sys.executable, "-c", KILLED, str(recorder_pid), str(recorder_start)]
        done = subprocess.run(command, input="", capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        ids = done.stdout.split()
        assert len(segments_there(ids)) == 3
        return ids

    return leave


def test_what_a_killed_process_left_is_found_and_removed(killed, capsys):
    ids = killed(2**22 + 1)  # above the largest pid: a recorder that is gone
    main(["doctor"])
    shown = capsys.readouterr().out
    assert "stale session" in shown and "atf recover" in shown
    assert len(segments_there(ids)) == 3, "looking removes nothing"
    main(["doctor", "--clean", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert len(found["cleaned"]) == 1 and "3 segments" in found["cleaned"][0]
    assert not segments_there(ids)
    assert [check["found"] for check in found["checks"] if check["name"] == "stale sessions"] == ["none"]


def test_a_program_that_outlives_its_recorder_is_left_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", KILLED, str(2**22 + 1), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        ids = program.stdout.readline().split()
        main(["doctor", "--clean", "--json"])
        assert json.loads(capsys.readouterr().out)["cleaned"] == []
        program.stdin.close()
    main(["doctor", "--clean"])
    assert not segments_there(ids)


def test_a_session_that_is_being_recorded_is_left_alone(killed, capsys, tmp_path):
    ids = killed(os.getpid(), segment.process_start(os.getpid()))
    try:
        assert main(["doctor", "--clean", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["cleaned"] == []
        assert len(segments_there(ids)) == 3
    finally:
        segment.SegmentSet.attach(tuple(map(int, ids))).remove()
