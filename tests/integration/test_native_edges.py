"""The edges of native tracing: programs and processes that are not like the rest are recorded, or refused with a remedy before anything runs."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from atf.cli import main
from atf.errors import TargetDenied, TargetForeign
from atf.native import door, elf, place, preflight
from atf.native.attach import Attachment
from live import wait_for
from native_bench import SOURCES, attach_words, calls_of, compile_program, manifest_of, needs_agent, needs_frida, needs_gcc, running
from test_native_attach import code_of

pytestmark = [needs_gcc, needs_agent]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes other users' processes and namespaces as root")
NOBODY = 65534

# Becomes another user, or sees the world from another root, and calls then until it is killed.
SOURCES["elsewhere"] = """
    #define _GNU_SOURCE
    #include <stdio.h>
    #include <stdlib.h>
    #include <sys/prctl.h>
    #include <unistd.h>
    __attribute__((noinline)) long step(long x) { __asm__ volatile(""); return x * 3 + 1; }
    int main(int argc, char **argv) {
        if (argc > 1 && setresuid(atoi(argv[1]), atoi(argv[1]), atoi(argv[1])) != 0) return 9;
        if (argc > 2) prctl(PR_SET_DUMPABLE, 0);
        puts("ready");
        fflush(stdout);
        for (long s = 0, i = 0;; i++) { s = step(s); if (i % 50 == 0) usleep(100); }
    }"""
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
    from atf.native import injector, spawn

    apart = tmp_path / "with a blank: and more"
    apart.mkdir()
    copy = shutil.copy(injector.agent_file(), apart)
    monkeypatch.setattr(injector, "agent_file", lambda name="libatf_agent.so": copy)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(bench.runtime))
    supervisor = spawn.NativeSupervisor([programs("loop"), "3"], str(bench.root), {"level": "returns", "policy": "block"})
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


# ---------------------------------------------------------------- processes
def record_running(bench, process, words=()):
    ran = bench.plain(*attach_words(bench, process, "--duration", "100ms", "--json", *words))
    assert ran.status == 0, ran.err
    assert ran.summary["errors"] == []
    assert ran.summary["events"] > 50
    return ran


def rooms():
    return set(pathlib.Path("/tmp").glob("atf-*/libatf_agent.so"))


@needs_root
@needs_frida
def test_root_attaches_to_another_users_process(bench, programs):
    before = rooms()
    with running(programs("elsewhere"), str(NOBODY)) as process:
        process.stdout.readline()
        for again in ("", "2"):
            words = attach_words(bench, process.pid, "--duration", "100ms", "--json")
            words[words.index("--out") + 1] += again
            ran = bench.plain(*words)
            assert ran.status == 0, ran.err
            assert ran.summary["events"] > 50
        inodes = {line.split()[4] for line in pathlib.Path(f"/proc/{process.pid}/maps").read_text().splitlines() if "libatf_agent" in line}
        assert len(inodes) == 1, "the agent that is in is used again"
        assert process.poll() is None
    assert rooms() == before, "the copies are taken away"


@needs_root
def test_a_process_that_shuts_others_out(programs):
    with running(programs("elsewhere"), str(NOBODY), "closed") as process:
        process.stdout.readline()
        os.seteuid(NOBODY)
        try:
            with pytest.raises(TargetDenied, match="lets nobody but root"):
                preflight.require(process.pid)
        finally:
            os.seteuid(0)


def test_what_the_kernel_permits(tmp_path, programs):
    """The setting of the yama module, which not every kernel has: read from a file like it."""
    setting, status = tmp_path / "ptrace_scope", preflight._status(os.getppid())
    for scope, as_root, as_user in ((0, "ok", "ok"), (1, "ok", "fault"), (2, "ok", "fault"), (3, "fault", "fault")):
        setting.write_text(f"{scope}\n")
        found = preflight._ptrace(os.getppid(), status, os.geteuid(), str(setting))
        assert found.status == (as_root if os.geteuid() == 0 else as_user)
        assert found.advice or found.status == "ok"


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="takes a capability away by setpriv")
@needs_root
def test_root_without_the_right_to_trace(bench, programs):
    with running(programs("elsewhere"), str(NOBODY)) as process:
        process.stdout.readline()
        limited = ["setpriv", "--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace"]
        ran = bench.plain(*limited, *attach_words(bench, process.pid))
        assert ran.status == 1
        assert "--cap-add SYS_PTRACE" in ran.err


@contextlib.contextmanager
def contained(tmp_path, program, *spaces):
    """The program in namespaces of its own, with a root that holds nothing but what it needs."""
    root = tmp_path / "root"
    for room in ("tmp", "proc", "bin"):
        (root / room).mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    gcc_s = subprocess.run(["gcc", "-print-file-name=libgcc_s.so.1"], capture_output=True, text=True, check=True).stdout.strip()
    for path in [*re.findall(r"(/\S+) \(0x", listed), gcc_s]:
        there = root / (path[1:] if path != gcc_s else "lib/libgcc_s.so.1")
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, there)
    shutil.copy(program, root / "bin" / "elsewhere")
    words = ["unshare", *spaces, f"--root={root}", "/bin/elsewhere"]
    with running(*words) as process:
        if process.stdout.readline() != "ready\n":
            pytest.skip("namespaces are not permitted here")
        below = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        try:
            yield root, int(below[0]) if below else process.pid
        finally:
            for child in below:
                os.kill(int(child), 9)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="makes namespaces by unshare")
@needs_root
@needs_frida
@pytest.mark.parametrize("spaces", [["-m", "-i", "-n", "-u", "-p", "-f", "--mount-proc"], ["-m", "-p", "-f", "--mount-proc"]])
def test_a_process_in_a_container_is_recorded(bench, programs, tmp_path, spaces):
    with contained(tmp_path, programs("elsewhere"), *spaces) as (root, pid):
        ran = record_running(bench, pid, ("--module", "main", "--module", "libc.so.6", "--include", "step", "--include", "*usleep*", "--include", "*nanosleep"))
        assert not list((root / "tmp").iterdir()), "the copies are taken away"
        assert ran.summary["native"]["hooked"] >= 2
        assert os.path.exists(f"/proc/{pid}")
    names = {row.name for row in ran.trace().top(None)}
    assert "step" in names
    assert any("sleep" in name for name in names), "its own C library is recorded too"
    manifest = manifest_of(ran)
    assert manifest["modules"][0]["path"] == "/bin/elsewhere"


@pytest.mark.skipif(shutil.which("unshare") is None, reason="makes namespaces by unshare")
@needs_root
def test_a_container_where_nothing_can_be_put(programs, tmp_path):
    with contained(tmp_path, programs("elsewhere"), "-m", "-p", "-f", "--mount-proc") as (root, pid):
        (root / "tmp").rmdir()
        faults = [finding for finding in preflight.process(pid) if finding.status == "fault"]
        assert [fault.name for fault in faults] == ["container"]
        assert "mount a writable file system" in faults[0].advice
        with pytest.raises(TargetDenied, match="no place for the agent"):
            place.Place(pid, __file__, str(tmp_path))
    with contained(tmp_path, programs("elsewhere"), "-m") as (root, pid):
        faults = [finding for finding in preflight.process(pid) if finding.status == "fault"]
        assert [fault.name for fault in faults] == ["proc"]
        os.seteuid(NOBODY)
        try:
            assert any(finding.status == "fault" and finding.advice for finding in preflight.process(pid))
        finally:
            os.seteuid(0)


def test_ids_that_name_no_program(programs, tmp_path):
    config = {"level": "returns"}
    with pytest.raises(TargetForeign, match="is atf itself"):
        preflight.require(os.getpid())
    with running(programs("busy")) as process:
        process.stdout.readline()
        thread = max(map(int, os.listdir(f"/proc/{process.pid}/task")))
        with pytest.raises(TargetForeign, match=f"a thread of process {process.pid}: attach to {process.pid}"):
            preflight.require(thread)
    kernel = [int(name) for name in os.listdir("/proc") if name.isdecimal() and preflight._status(int(name)).get("PPid") == "2"]
    if kernel:
        with pytest.raises((TargetForeign, TargetDenied), match="thread of the kernel|belongs to user"):
            preflight.require(kernel[0])
        if os.geteuid() == 0:
            with pytest.raises(TargetForeign, match="perf trace"):
                Attachment(kernel[0], str(tmp_path), config)


@needs_frida
def test_attached_twice_at_once(bench, programs):
    with running(programs("elsewhere")) as process:
        process.stdout.readline()
        first = subprocess.Popen(attach_words(bench, process.pid, "-q"), cwd=bench.path, env=bench.environment, stderr=subprocess.PIPE, text=True)
        index = wait_for(lambda: next(bench.root.glob("session_*/pid_*/thread_0/index.atf"), None))
        wait_for(lambda: index.stat().st_size > 1000)
        words = attach_words(bench, process.pid, "--duration", "100ms")
        words[words.index("--out") + 1] += "2"
        second = bench.plain(*words)
        assert second.status == 1
        assert "another recording is active in it: end that one first" in second.err
        size = index.stat().st_size
        wait_for(lambda: index.stat().st_size > size)  # the first goes on
        first.terminate()
        assert first.communicate(timeout=30)[1] == ""
        assert first.returncode == 0
        assert process.poll() is None


@needs_frida
@pytest.mark.skipif(shutil.which("strace") is None, reason="holds a process by strace")
def test_a_process_that_strace_holds(bench, programs):
    with running(programs("elsewhere")) as process:
        process.stdout.readline()
        with running("strace", "-f", "-o", "/dev/null", "-p", str(process.pid)):
            wait_for(lambda: "TracerPid:\t0" not in pathlib.Path(f"/proc/{process.pid}/status").read_text())
            ran = bench.plain(*attach_words(bench, process.pid))
            assert ran.status == 1
            assert "end that debugger or strace first" in ran.err
        time.sleep(0.05)
        assert process.poll() is None


@needs_frida
def test_hooks_that_a_recorder_left_are_taken_out_by_the_next(bench, programs):
    """One recorder is killed and what it left is recovered; one finds its process stopped at the end."""
    program = programs("elsewhere")
    with running(program) as process:
        process.stdout.readline()
        before = code_of(process.pid, program)
        for how in ("killed", "stopped"):
            words = attach_words(bench, process.pid)
            words[words.index("--out") + 1] += how
            attached = subprocess.Popen(words, cwd=bench.path, env=bench.environment, stderr=subprocess.PIPE, text=True)
            index = wait_for(lambda: next(bench.path.glob(f"traces{how}/session_*/pid_*/thread_0/index.atf"), None))  # noqa: B023
            wait_for(lambda: index.stat().st_size > 1000)  # noqa: B023
            if how == "stopped":
                process.send_signal(signal.SIGSTOP)
                wait_for(lambda: preflight.stopped(process.pid))
            attached.send_signal(signal.SIGKILL if how == "killed" else signal.SIGINT)
            _, err = attached.communicate(timeout=30)
            if how == "stopped":
                assert "it is stopped; let it go on" in err
                process.send_signal(signal.SIGCONT)
            else:
                assert bench.atf("recover").status == 0
            assert code_of(process.pid, program) != before
            words = attach_words(bench, process.pid, "--duration", "50ms", "--json")
            words[words.index("--out") + 1] += how + "2"
            ran = bench.plain(*words)
            assert ran.status == 0, ran.err
            assert ran.summary["events"] > 20
            assert code_of(process.pid, program) == before
        assert process.poll() is None
