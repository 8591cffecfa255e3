"""Killed programs, killed recorders, full disks, refused memory: what was committed is kept, what was lost is told."""

import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import pytest
from live import calls, produced, wait_for

import atf

TICKS = """
    import sys, time
    def tick(): pass
    print("ready", flush=True)
    for n in range(int(sys.argv[1])):
        for _ in range(1000): tick()
        time.sleep(0.001)
    print("done", n)
"""


def session_of(bench):
    (session,) = bench.root.glob("session_*")
    return session


# ---------------------------------------------------------------- the program dies
def test_sigkill_of_the_program_keeps_everything_it_committed(bench):
    source = """
        import os, sys
        def tick(): pass
        for _ in range(123_457): tick()
        os.kill(os.getpid(), 9)
    """
    ran = bench.python(source, options=["--json", "--policy", "block"])
    assert ran.status == 137 and ran.summary["lost"] == {}
    with ran.trace() as trace:
        assert calls(trace, "tick") == 123_457 and trace.check() == []
        # The call of kill's Python frame: the module is all that is open.
        assert trace.info["status"] == "complete" and trace.info["processes"][0]["exit"] == -9


def test_sigkill_from_outside_leaves_events_up_to_the_kill(bench):
    program = bench.begin(TICKS, "100000")
    assert program.stdout.readline() == "ready\n"
    time.sleep(0.3)
    os.kill(bench.program_pid(), signal.SIGKILL)
    killed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    program.communicate(timeout=20)
    assert program.returncode == 137
    with atf.open(session_of(bench)) as trace:
        last_ns = trace.info["time_end_ns"]
        assert -1_000_000 < killed_ns - last_ns < 50_000_000, "the last milliseconds are missing"
        assert trace.info["lost"] == {} and trace.check() == []


@pytest.mark.parametrize("crash", ["import ctypes; ctypes.string_at(1)", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "import os; os.abort()"])
def test_a_crash_keeps_everything_it_committed(bench, crash):
    program = bench.write(f"def tick(): pass\nfor _ in range(5000): tick()\n{crash}\n")
    plain = bench.plain(sys.executable, program)
    ran = bench.record(sys.executable, program)
    assert ran.status == 128 - plain.status
    with ran.trace() as trace:
        assert calls(trace, "tick") == 5000


# ---------------------------------------------------------------- the recorder dies
def test_sigkill_of_the_recorder_leaves_the_program_alone_and_recover_completes(bench):
    source = """
        import sys, time
        def early(): pass
        def late(n): return n
        for _ in range(60_000): early()
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(1000): late(n)
        print("done", late(7))
        sys.exit(6)
    """
    status = bench.path / "status"
    program = bench.write(source)
    words = ["sh", "-c", f"{sys.executable} {program}; echo $? > {status}"]
    recorder = subprocess.Popen(
        bench.command(*words, options=["-q"]), cwd=bench.path, env=bench.environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert recorder.stdout.readline() == "ready\n"
    time.sleep(0.4)  # what is here goes to the files, the rest stays in the rings
    recorder.kill()
    recorder.wait()
    assert len(bench.segments()) == 3
    recorder.stdin.write("go\n")
    recorder.stdin.flush()
    wait_for(status.exists)
    assert (recorder.stdout.readline(), wait_for(status.read_text)) == ("done 7\n", "6\n")
    recorder.stdin.close(), recorder.stdout.close()
    session = session_of(bench)
    with atf.open(session) as trace:
        assert trace.info["status"] != "complete"
        assert 0 < calls(trace, "early") <= 60_000, "neither events nor names were written while it ran"
    said = json.loads(bench.atf("recover", "--json").out)
    assert said["notes"] == [] and said["processes"][0]["from_segments"] > 0
    assert bench.segments() == set() and not list(bench.runtime.glob("atf/*"))
    with atf.open(session) as trace:
        assert calls(trace, "early") == 60_000 and calls(trace, "late") == 1001
        assert said["processes"][0]["events"] == len(trace.events())
        assert trace.info["status"] == "recovered" and trace.info["lost"] == {} and trace.check() == []
    assert bench.atf("recover", str(session)).out == "nothing to recover\n"


@pytest.mark.parametrize("policy", ["drop-oldest", "block"])
def test_a_program_without_its_recorder_does_not_stall(bench, policy):
    source = """
        import sys, time
        def tick(): pass
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(1_000_000): tick()
        print("done", flush=True)
        time.sleep(0.1)
    """
    recorder = bench.begin(source, options=["-q", "--policy", policy, "--ring-size", "256K", "--burst-size", "0", "--include", "__main__"])
    assert recorder.stdout.readline() == "ready\n"
    recorder.kill()
    recorder.wait()
    began = time.monotonic()
    recorder.stdin.write("go\n")
    recorder.stdin.flush()
    assert recorder.stdout.readline() == "done\n"
    # Under `block` a drain that fell silent is waited for once, five seconds in all.
    assert time.monotonic() - began < (5 if policy == "drop-oldest" else 10)
    wait_for(lambda: recorder.stdout.read() == "")
    recorder.stdin.close(), recorder.stdout.close(), recorder.stderr.close()
    said = bench.atf("recover")
    assert said.status == 0, said.err
    with atf.open(session_of(bench)) as trace:
        assert produced(trace) == 2_000_001 + 1, "the gaps do not tell what is missing"
        assert trace.info["lost"] and trace.check() == []


@pytest.fixture
def halfway(bench):
    """A recorded program that waits for a line after 51,000 calls; its recorder as a Popen."""
    source = TICKS.replace("time.sleep(0.001)", "time.sleep(0.001)\n        if n == 50: print('half', flush=True), sys.stdin.readline()")
    recorder = bench.begin(source, "100")
    with recorder:
        assert recorder.stdout.readline() == "ready\n" and recorder.stdout.readline() == "half\n"
        bench.program_pid()
        yield recorder


def test_recovery_while_the_program_still_runs(bench, halfway):
    pid = bench.program_pid()
    halfway.kill()
    halfway.wait()
    said = bench.atf("recover")
    print("go", file=halfway.stdin, flush=True)
    assert halfway.stdout.readline() == "done 99\n"
    assert f"process {pid} still runs: it is no longer recorded" in said.err and said.status == 0
    with atf.open(session_of(bench)) as trace:
        assert calls(trace, "tick") == 51_000 and trace.check() == []


def test_recover_of_a_running_recording_changes_nothing(bench, halfway):
    said = bench.atf("recover", str(session_of(bench)))
    print("go", file=halfway.stdin, flush=True)
    halfway.communicate()
    assert "is being recorded now" in said.err
    with atf.open(session_of(bench)) as trace:
        assert calls(trace, "tick") == 100_000 and trace.info["status"] == "complete"


def test_doctor_lists_a_stale_session_and_removes_it(bench):
    with bench.begin(TICKS, "5") as recorder:
        assert recorder.stdout.readline() == "ready\n"
        bench.program_pid()
        recorder.kill()
        assert recorder.stdout.read() == "done 4\n"  # communicate() would miss what readline() has fetched already
    assert "stale session" in bench.atf("doctor").out and len(bench.segments()) == 3
    said = bench.atf("doctor", "--clean")
    assert "and 3 segments" in said.out and bench.segments() == set()


# ---------------------------------------------------------------- the disk is full
@pytest.fixture
def small_disk(bench):
    """A file system of 3 MiB of the bench's own, as its output; needs root."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system that gets full")
    bench.root.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(bench.root)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield bench.root
    subprocess.run(["umount", "-l", str(bench.root)], check=True)


def test_a_full_disk_leaves_a_gap_and_recording_goes_on(bench, small_disk):
    source = """
        import os, sys
        def first(): pass
        def second(): pass
        def third(): pass
        for _ in range(200_000): first()
        print("full", flush=True); sys.stdin.readline()
        for _ in range(20_000): second()
        print("freed?", flush=True); sys.stdin.readline()
        for _ in range(1000): third()
    """
    (small_disk / "ballast").write_bytes(bytes(1 << 20))
    program = bench.begin(source, options=["--json", "--policy", "block", "--include", "__main__"])
    assert program.stdout.readline() == "full\n"
    time.sleep(0.4)
    print("go", file=program.stdin, flush=True)
    assert program.stdout.readline() == "freed?\n"
    time.sleep(0.4)
    (small_disk / "ballast").unlink()
    print("go", file=program.stdin, flush=True)
    _, err = program.communicate(timeout=30)
    assert program.returncode == 0
    summary = json.loads(err.strip().splitlines()[-1])
    session = session_of(bench)
    with atf.open(session) as trace:
        assert calls(trace, "third") == 1000 and 0 < calls(trace, "first") < 200_000
        gaps = list(trace.events(kind="gap"))
        assert {gap.reason for gap in gaps} == {"disk full"}
        assert produced(trace) == 2 * 221_000 + 2
        assert trace.info["lost"] == summary["lost"] == {"disk full": sum(gap.lost for gap in gaps)}
        assert trace.info["status"] == "complete" and trace.check() == []


def test_a_disk_that_stays_full_keeps_the_programs_status_and_says_so(bench, small_disk):
    source = """
        import sys
        def work(): pass
        for _ in range(300_000): work()
        sys.exit(9)
    """
    ran = bench.python(source, options=[])
    assert ran.status == 9 and "disk" in ran.err and "Traceback" not in ran.err, ran.err
    with ran.trace() as trace:
        assert len(trace.events()) > 1000 and (trace.info["status"] != "complete" or trace.info["lost"])


# ---------------------------------------------------------------- places that cannot be used
def test_output_that_cannot_be_written(bench):
    bench.root.write_text("a file")
    ran = bench.python("print('ran')")
    assert ran.status == 1 and ran.out == "" and ran.err.startswith("atf: ") and "--out" in ran.err and ran.err.count("\n") == 1
    bench.root.unlink()
    bench.root = pathlib.Path("/proc/nowhere")
    ran = bench.python("print('ran')")
    assert ran.status == 1 and "cannot be made" in ran.err and "Traceback" not in ran.err
    bench.root = bench.path / "traces"


def test_output_of_somebody_else(bench):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    bench.path.chmod(0o755)
    for parent in bench.path.parents:
        if parent.stat().st_uid == 0 and parent != pathlib.Path("/") and parent.name.startswith("pytest"):
            parent.chmod(0o755)
    bench.root.mkdir(mode=0o755)
    other = bench.path / "other"
    other.mkdir()
    os.chown(other, 65534, 65534)
    bench.environment["XDG_RUNTIME_DIR"] = str(other)
    try:
        ran = bench.python("print('ran')", user=65534, group=65534)
    except PermissionError:
        pytest.skip("another user cannot reach this Python")
    if "Permission denied" in ran.err and "cannot be made" not in ran.err:
        pytest.skip("another user cannot reach this Python")
    assert ran.status == 1 and "Permission denied" in ran.err and "--out" in ran.err


def test_runtime_directory_with_wrong_permissions(bench):
    (bench.runtime / "atf").mkdir(mode=0o755)
    (bench.runtime / "atf").chmod(0o755)
    ran = bench.python("print('ran')")
    assert ran.status == 1 and ran.out == "" and "0700" in ran.err and not list(bench.root.glob("*"))
    (bench.runtime / "atf").rmdir()
    (bench.runtime / "atf").symlink_to(bench.path)
    ran = bench.python("print('ran')")
    assert ran.status == 1 and "not yours alone" in ran.err
    (bench.runtime / "atf").unlink()


@pytest.mark.parametrize("limit, value", [("shmmni", "2"), ("shmall", "10"), ("shmmax", "4096")])
def test_shared_memory_limits(bench, limit, value):
    """In an IPC namespace of its own, where the limits are really that low."""
    inside = subprocess.run(["unshare", "-i", "sh", "-c", f"echo {value} > /proc/sys/kernel/{limit}"], capture_output=True)
    if inside.returncode:
        pytest.skip("no IPC namespace of our own can be made here (needs root)")
    words = bench.command(sys.executable, bench.write("print('ran')\nraise SystemExit(4)\n"), options=[])
    ran = bench.plain("unshare", "-i", "sh", "-c", f'echo {value} > /proc/sys/kernel/{limit}; "$@"; echo $?; cat /proc/sysvipc/shm', "sh", *words)
    assert ran.out.splitlines()[:2] == ["ran", "4"], ran.out
    assert len(ran.out.splitlines()) == 3, "segments were left behind"
    assert "SegmentError" in ran.err and f"kernel.{limit}" in ran.err and "Traceback" not in ran.err, ran.err
    program = bench.write("import atf\ntry: atf.start('x')\nexcept atf.SegmentError as error: print(error)\n")
    ran = bench.plain("unshare", "-i", "sh", "-c", f'echo {value} > /proc/sys/kernel/{limit}; "$@"', "sh", sys.executable, program)
    assert f"kernel.{limit}" in ran.out and ran.err == ""


def test_too_few_open_files(bench):
    """The recorder cannot open files for all threads: their events are told as lost, the rest is there."""
    source = """
        import threading, time
        def work(): pass
        def loop():
            for _ in range(1000): work()
            barrier.wait()
        barrier = threading.Barrier(41)
        threads = []
        for _ in range(40): threads.append(threading.Thread(target=loop))
        for thread in threads: thread.start()
        time.sleep(0.8)
        barrier.wait()
        for thread in threads: thread.join()
        raise SystemExit(3)
    """
    limit = (30, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    ran = bench.python(source, options=["--json", "--include", "__main__"], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
    assert ran.status == 3
    with ran.trace() as trace:
        expected = 2 * (1 + 40 * 1001)
        lost = sum(ran.summary["lost"].values())
        assert ran.summary["events"] + lost >= expected and lost > 0
        assert sum(trace.info["lost"].values()) == lost
