"""The edges of native tracing: programs that are not like the rest are recorded, or refused with a remedy before anything runs."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from atf.cli import main
from atf.errors import TargetDenied
from atf.native import door, elf
from live import wait_for
from native_bench import SOURCES, calls_of, compile_program, needs_agent, needs_frida, needs_gcc, running
from test_native_attach import code_of

pytestmark = [needs_gcc, needs_agent]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes other users' processes and namespaces as root")
NOBODY = 65534

SOURCES["short"] = """
    #include <stdio.h>
    __attribute__((naked, noinline)) int seven(void) { __asm__ volatile("push $7; pop %rax; ret"); }
    __attribute__((naked, noinline)) int eight(void) { __asm__ volatile("push $8; pop %rax; ret"); }
    int main(void) { int s = 0; for (int i = 0; i < 10; i++) s += seven() * eight(); printf("%d\\n", s); return 0; }"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    return lambda name, *flags: compile_program(directory, name, *flags)


def doctor(capsys, target):
    """(exit status, the faults as {check: found and advice})."""
    capsys.readouterr()
    status = main(["doctor", "--json", str(target)])
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"ok", "cleaned", "checks"}
    assert all(set(check) == {"name", "status", "found", "advice"} for check in document["checks"])
    return status, {check["name"]: check["found"] + " " + check["advice"] for check in document["checks"] if check["status"] == "fault"}


def refused(capsys, tmp_path, program):
    """What `atf record` says of a program that it does not start."""
    capsys.readouterr()
    status = main(["record", "--out", str(tmp_path / "traces"), "--", program, "3"])
    told = capsys.readouterr()
    assert (status, told.out) == (1, "")
    assert len(told.err.splitlines()) == 1
    assert not list(tmp_path.glob("traces/session_*"))
    return told.err


# ---------------------------------------------------------------- programs
def built_odd(programs, tmp_path, kind):
    program = tmp_path / kind.replace(" ", "-")
    if kind in ("static", "static-pie"):
        return programs("loop", f"-{kind}")
    if kind == "32 bits":
        source = tmp_path / "bare.c"
        source.write_text('void _start(void) { __asm__ volatile("mov $1,%eax; mov $3,%ebx; int $0x80"); }')
        subprocess.run(["gcc", "-m32", "-O1", "-nostdlib", "-static", source, "-o", program], check=True, capture_output=True)
        return str(program)
    if kind in ("no loader", "musl"):
        loader = "/lib/ld-musl-x86_64.so.1" if kind == "musl" else "/no/such/ld-linux-x86-64.so.2"
        return relinked(tmp_path, loader)
    if kind == "go":
        source = tmp_path / "go.c"
        source.write_text('__asm__(".section .gopclntab,\\"a\\"\\n.quad 1\\n.text\\n");\nint main(void) { return 0; }')
        subprocess.run(["gcc", source, "-o", program], check=True)
        return str(program)
    content = bytearray(pathlib.Path(programs("loop")).read_bytes())
    content[18] = 183
    program.write_bytes(content)
    program.chmod(0o755)
    return str(program)


def relinked(tmp_path, loader):
    (tmp_path / "odd.c").write_text(SOURCES["loop"])
    subprocess.run(["gcc", "-O2", tmp_path / "odd.c", f"-Wl,--dynamic-linker={loader}", "-o", tmp_path / "odd"], check=True)
    return str(tmp_path / "odd")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("static", "leave out -static"),
        ("static-pie", "leave out -static-pie"),
        ("32 bits", "build it for 64 bits"),
        ("aarch64", "this machine is x86_64"),
        ("no loader", "install the C library it was built for"),
        ("musl", "on a system with glibc"),
        ("go", "trace its C libraries by --module"),
    ],
)
def test_an_odd_program_is_refused_before_it_runs(programs, tmp_path, capsys, kind, said):
    program = built_odd(programs, tmp_path, kind)
    assert said in refused(capsys, tmp_path, program)
    status, faults = doctor(capsys, program)
    assert status == 1
    assert said in "".join(faults.values())


@needs_root
def test_programs_whose_loader_ignores_us(bench, programs, tmp_path, capsys, monkeypatch):
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip("this file system knows no setuid")
    program = str(tmp_path / "privileged")
    shutil.copy(programs("loop"), program)
    for owner, mode, said in ((NOBODY, 0o4755, "it runs as user 65534"), (0, 0o2755, "it runs as group 65534")):
        os.chown(program, owner, NOBODY)
        os.chmod(program, mode)
        told = refused(capsys, tmp_path, program)
        assert said in told
        assert "atf attach PID" in told
        status, faults = doctor(capsys, program)
        assert (status, list(faults)) == (1, ["privileges"])
    os.chown(program, 0, 0)
    os.chmod(program, 0o755)
    os.setxattr(program, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    assert bench.record(program, "3").status == 0, "root gains nothing by it"
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(TargetDenied, match="file capabilities"):
        door.require(door.startable(program, elf.ElfFile(program)))


@needs_root
def test_a_file_system_without_execution(programs, tmp_path, capsys):
    room = tmp_path / "noexec"
    room.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", room], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copy(programs("loop"), room / "loop")
        assert "mounted noexec: copy it elsewhere" in refused(capsys, tmp_path, str(room / "loop"))
        assert "noexec" in doctor(capsys, room / "loop")[1]["program"]
    finally:
        subprocess.run(["umount", room], check=True)


def test_a_script_says_what_it_is(bench, tmp_path, capsys):
    script = tmp_path / "run.sh"
    script.write_text("#!/bin/sh\necho done\nexit 4\n")
    script.chmod(0o755)
    ran = bench.record(str(script))
    assert (ran.status, ran.out) == (4, "done\n")
    assert "name the interpreter" in doctor(capsys, script)[1]["program"]


def test_the_agent_lies_at_a_path_that_the_loader_would_split(bench, programs, tmp_path, monkeypatch):
    """LD_PRELOAD parts its entries at blanks and colons."""
    from atf.native import injector, launch, spawn

    apart = tmp_path / "with a blank: and more"
    apart.mkdir()
    copy = shutil.copy(injector.agent_file(), apart)
    monkeypatch.setattr(injector, "agent_file", lambda name="libatf_agent.so": copy)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(bench.runtime))
    supervisor = spawn.NativeSupervisor([programs("loop"), "3"], str(bench.root), {"level": "returns", "policy": "block"})
    assert supervisor.run() == 0
    assert supervisor.gatherer.errors == []
    assert supervisor.gatherer.totals()["events"] == 2 * (1 + 3 + 30)
    supervisor = launch.LauncherSupervisor(["sh", "-c", f"{programs('loop')} 3; true"], str(bench.root), {"level": "returns", "policy": "block"})
    assert supervisor.run() == 0
    assert supervisor.gatherer.errors == []
    assert supervisor.gatherer.totals()["events"] == 2 * (1 + 3 + 30)


def test_the_slow_path_is_asked_for(bench, programs):
    short = programs("short")
    ran = bench.record(short, options=("--json", "--slow-path"))
    assert (ran.status, ran.out) == (0, bench.plain(short).out)
    assert ran.summary["native"]["traps"] == 2
    assert calls_of(ran.trace()) == {"main": 1, "seven": 10, "eight": 10}
    assert main(["record", "--slow-path", "--", sys.executable, "-c", "pass"]) == 2


# ---------------------------------------------------------------- --detach-after
@needs_frida
def test_detach_after_leaves_the_program_as_it_was(bench, programs):
    busy = programs("busy")
    words = bench.command(busy, options=("--json", "--detach-after", "150ms"))
    recorded = subprocess.Popen(words, cwd=bench.path, env=bench.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert recorded.stdout.readline() == "ready\n"
    (pid,) = map(int, pathlib.Path(f"/proc/{recorded.pid}/task/{recorded.pid}/children").read_text().split())
    manifest = wait_for(lambda: next(bench.root.glob("session_*/pid_*/manifest.json"), None))
    wait_for(lambda: json.loads(manifest.read_text())["status"] == "complete")
    with running(busy) as fresh:
        fresh.stdout.readline()
        assert list(code_of(pid, busy).values()) == list(code_of(fresh.pid, busy).values()), "every byte is back, and the program runs on"
    out, err = recorded.communicate("", timeout=20)
    assert (recorded.returncode, out) == (0, "whole\n"), err
    summary = json.loads(err)
    assert (summary["ended"], summary["errors"]) == ("duration", [])
    assert summary["events"] > 100


def without_frida(bench):
    (bench.path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda name, *more: None if name == 'frida' else find(name, *more)\n"
    )
    bench.environment["PYTHONPATH"] = f"{bench.path}{os.pathsep}{bench.environment['PYTHONPATH']}"


def test_without_frida_everything_else_works(bench, programs):
    without_frida(bench)
    ran = bench.record(programs("loop"), "3", options=("--json", "--slow-path"))
    assert (ran.status, ran.summary["events"]) == (0, 2 * (1 + 3 + 30))
    ran = bench.record(programs("loop"), "3", options=("--detach-after", "5s"))
    assert (ran.status, ran.out) == (1, "")
    assert "pip install 'atf[native]'" in ran.err
    ran = bench.atf("doctor", "1")
    assert ran.status == 1
    assert "pip install 'atf[native]'" in ran.out
