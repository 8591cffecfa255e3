"""``atf doctor`` of a program and of a process, and which programs are recorded natively at all."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time

import pytest

from atf.cli import main
from atf.native import ending, injector, preflight
from atf.native.kind import is_native
from native_bench import compile_program, needs_agent, needs_frida, needs_gcc, running

pytestmark = [needs_gcc, needs_agent]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    return lambda name, *flags: compile_program(directory, name, *flags)


def doctor(capsys, target):
    """(exit status, {check: (status, found, advice)})."""
    status = main(["doctor", "--json", str(target)])
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] == (status == 0)
    return status, {check["name"]: (check["status"], check["found"], check["advice"]) for check in document["checks"]}


def test_a_program_in_good_health(programs, capsys):
    status, found = doctor(capsys, programs("loop"))
    assert status == 0
    assert {state for state, _, _ in found.values()} == {"ok"}
    assert "3 can be chosen, 3 with names" in found["symbols"][1]


def test_every_fault_has_its_remedy(programs, capsys, tmp_path):
    pytest.importorskip("frida")  # else its absence is a second fault
    bare = str(tmp_path / "bare")
    subprocess.run(["strip", "-o", bare, programs("loop")], check=True)
    status, found = doctor(capsys, bare)
    assert status == 0
    assert found["symbols"][0] == found["lines"][0] == "note"
    assert "-dbgsym" in found["symbols"][2]
    for target, said in ((programs("loop", "-static"), "leave out -static"), ("no-such-program", "write its path"), (4194304 * 2, "pgrep")):
        status, found = doctor(capsys, target)
        assert status == 1
        ((name, (_, text, advice)),) = [(name, check) for name, check in found.items() if check[0] == "fault"]
        assert said in text + advice, name
    assert main(["doctor", programs("loop")]) == 0
    assert "symbols" in capsys.readouterr().out


@needs_frida
def test_a_process(programs, capsys):
    with running(programs("loop"), "100000", "500") as process:
        status, found = doctor(capsys, process.pid)
        assert status == 0, found
        assert found["process"][1] == f"{process.pid} loop"
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.05)
        assert doctor(capsys, process.pid)[0] == 1


def test_a_process_that_is_debugged(programs):
    if shutil.which("gdb") is None:
        pytest.skip("holds a process by gdb")
    with running(programs("loop"), "100000", "500") as process:
        with running("gdb", "-q", "-nx", "-p", str(process.pid), "-ex", "echo held\\n") as debugger:
            for line in debugger.stdout:
                if "held" in line:
                    break
            (fault,) = [finding for finding in preflight.process(process.pid) if finding.name == "ptrace"]
            assert fault.status == "fault"
            assert f"process {debugger.pid} debugs it" in fault.found


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="makes namespaces as root")
def test_a_process_in_a_container(programs):
    probe = subprocess.run(["unshare", "-m", "-i", "true"], capture_output=True)
    if probe.returncode:
        pytest.skip("namespaces are not permitted here")
    with running("unshare", "-m", "-i", programs("loop"), "100000", "500") as process:
        time.sleep(0.3)
        (note,) = [finding for finding in preflight.process(process.pid) if finding.name == "container"]
        assert note.status == "note"
        assert "files and shared memory of its own" in note.found
        assert "a copy of the agent" in note.advice


def test_which_programs_are_native(programs, tmp_path):
    assert is_native([programs("loop"), "1"])
    assert not is_native([sys.executable, "-c", "pass"])
    assert not is_native([os.path.realpath(sys.executable)])
    assert not is_native(["sh", "-c", "true"])
    assert not is_native(["no-such-program"])
    assert not is_native([])
    assert not is_native(["-m", "package"])
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert not is_native([str(script)])
    renamed = tmp_path / "my-interpreter"
    shutil.copy(os.path.realpath(sys.executable), renamed)
    assert not is_native([str(renamed)]), "Python under another name"


def test_the_agent_is_asked_for_by_its_file(monkeypatch, tmp_path):
    monkeypatch.setattr("atf._core.__path__", [str(tmp_path)])
    (missing,) = [finding for finding in preflight.examine("no-such-program") if finding.name == "agent"]
    assert missing.status == "fault"
    assert "make build" in missing.advice
    with pytest.raises(preflight.TargetError, match="not built"):
        injector.agent_file()


def test_the_last_calls_of_a_thread(tmp_path):
    """Frames that are open at the end, whatever came between; deep stacks are shortened in their middle."""

    def write(thread, records, footer=True):
        place = tmp_path / f"thread_{thread}"
        place.mkdir()
        body = b"".join(struct.pack("<QQIIII", at, function, 70 + thread, kind, depth, 0xFFFFFFFF) for at, function, kind, depth in records)
        head = bytearray(64)
        struct.pack_into("<Q", head, 40, 64 + len(body) if footer else 64)
        (place / "index.atf").write_bytes(bytes(head) + body + (bytes(64) if footer else b"half of a record"))

    manifest = {"symbols": [{"function_id": f"0x{number:016x}", "name": name} for number, name in enumerate("abcdefghijkl")]}
    assert ending.last_calls(manifest, str(tmp_path)) is None
    write(0, [(5, 0, 1, 1), (6, 1, 1, 2), (7, 1, 2, 2), (8, 2, 1, 2), (9, 3, 1, 3), (10, 3, 3, 3)])
    assert ending.last_calls(manifest, str(tmp_path)) == (70, ["a", "c"])
    write(1, [(20 + number, number, 1, number + 1) for number in range(12)], footer=False)
    assert ending.last_calls(manifest, str(tmp_path)) == (71, ["a", "b", "…", "g", "h", "i", "j", "k", "l"])
    assert "killed by SIGSEGV; last in thread 71: a > b" in ending.describe(-11, manifest, str(tmp_path))
    assert ending.describe(3, manifest, str(tmp_path)) is None
    assert ending.describe(-64, None, None) == "the program was killed by SIGRTMAX"
