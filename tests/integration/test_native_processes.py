"""Processes that are not like the rest: another user's, in containers, held by others, or no program's at all."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from atf.errors import TargetDenied, TargetForeign
from atf.native import injector, place, preflight
from atf.native.attach import Attachment
from live import wait_for
from native_bench import SOURCES, attach_words, compile_program, manifest_of, needs_agent, needs_frida, needs_gcc, running
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


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("programs")
    return lambda name, *flags: compile_program(directory, name, *flags)


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
@pytest.mark.guard
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
                wait_for(lambda: injector.stopped(process.pid))
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
            assert code_of(process.pid, program) == before, [line for line in ran.err.splitlines() if "hooks" in line]
        assert process.poll() is None
