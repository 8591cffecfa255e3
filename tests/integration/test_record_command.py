"""``atf record``: what it records, and that the program does not notice."""

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time

import pytest
from live import calls, produced, wait_for

FIB = """
    import sys
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)
    print(fib(int(sys.argv[1])) if len(sys.argv) > 1 else "idle")
"""
FIB_10_CALLS = 177

ABOUT = """
    import json, os, signal, sys, threading, warnings
    main = sys.modules["__main__"]
    json.dump({
        "argv": sys.argv, "path": sys.path, "flags": repr(sys.flags), "orig_argv": sys.orig_argv,
        "main": sorted(name for name in vars(main)), "file": main.__file__, "loader": type(main.__loader__).__name__, "package": main.__package__,
        "cwd": os.getcwd(), "limit": sys.getrecursionlimit(), "threads": [thread.name for thread in threading.enumerate()],
        "signals": [repr(signal.getsignal(number)) for number in range(1, 32)], "mask": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "umask": os.umask(0o77), "nice": os.nice(0), "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")),
        "interval": sys.getswitchinterval(), "trace": repr(sys.gettrace()), "profile": repr(sys.getprofile()), "filters": repr(warnings.filters),
        "environment": {key: value for key, value in os.environ.items() if key not in ("ATF_SESSION", "PYTHONPATH")},
        "stdin": sys.stdin.read(), "hooks": repr((sys.excepthook, sys.displayhook)),
    }, sys.stdout)
"""


def test_a_script_is_recorded_and_its_output_and_status_pass_through(bench):
    ran = bench.python(FIB + "    sys.exit(3)\n", "10")
    assert (ran.status, ran.out, ran.err) == (3, "55\n", "")
    with ran.trace() as trace:
        assert calls(trace, "fib") == FIB_10_CALLS
        (process,) = trace.info["processes"]
        assert process["exit"] == 3 and process["status"] == "complete" and process["argv"][-1] == "10"
        assert trace.info["lost"] == {} and trace.check() == []
        assert len(trace.spans(function="fib", status="ok")) == FIB_10_CALLS


@pytest.mark.parametrize(
    "ending, status",
    [
        ("sys.exit(0)", 0),
        ("sys.exit('gone wrong')", 1),
        ("raise ValueError('no')", 1),
        ("os._exit(7)", 7),
        ("os.kill(os.getpid(), 15)", 143),
        ("os.kill(os.getpid(), 9)", 137),
        ("os.abort()", 134),
    ],
)
def test_every_way_to_end_gives_its_own_status_and_output(bench, ending, status):
    program = bench.write("import os, sys\ndef work(): pass\nfor _ in range(1000): work()\nprint('out', flush=True)\n" + ending + "\n")
    plain = bench.plain(sys.executable, program)
    ran = bench.record(sys.executable, program)
    assert ran.status == status and plain.status in (status, 128 - status)
    assert (ran.out, ran.err) == (plain.out, plain.err)
    with ran.trace() as trace:
        assert calls(trace, "work") == 1000
        assert trace.info["processes"][0]["exit"] == (status if status < 128 else 128 - status)


def test_the_program_sees_the_world_as_untraced(bench):
    program = bench.write(ABOUT)
    plain = bench.plain(sys.executable, program, "a", "b c", input="typed\n")
    ran = bench.record(sys.executable, program, "a", "b c", input="typed\n")
    assert plain.status == ran.status == 0, ran.err
    assert json.loads(ran.out) == json.loads(plain.out)


def test_descriptors_and_ignored_signals_are_inherited(bench):
    program = bench.write("import os, signal; os.write(int(os.environ['GIVEN']), repr(signal.getsignal(signal.SIGHUP)).encode())")
    read, write = os.pipe()
    bench.environment["GIVEN"] = str(write)
    try:
        bench.record(sys.executable, program, pass_fds=[write], preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        os.close(write)
        assert b"SIG_IGN" in os.read(read, 100)
    finally:
        os.close(read)


def test_module_script_and_code_on_the_command_line(bench):
    (bench.path / "shop").mkdir()
    bench.write("def sell(): return 1\n", "shop/__init__.py")
    bench.write("import shop, sys\nshop.sell()\nprint(sys.argv[1:], __name__, sys.argv[0])\n", "shop/__main__.py")
    ran = bench.record("-m", "shop", "-x", "--", "y")
    assert ran.status == 0 and ran.out.startswith("['-x', '--', 'y'] __main__ "), ran.err
    with ran.trace() as trace:
        assert calls(trace, "sell", module="shop") == 1


def test_a_script_that_is_not_executable_gets_this_python_and_others_run_by_their_shebang(bench):
    bench.write(FIB)
    assert bench.record("program.py", "5").out == "5\n"
    script = bench.path / "tool"
    script.write_text(f"#!{sys.executable}\nprint('by shebang')\n")
    script.chmod(0o755)
    ran = bench.plain(*bench.command("./tool"))
    assert ran.out == "by shebang\n" and "1 process" in ran.err


def test_a_console_script(bench):
    ran = bench.record(os.path.join(os.path.dirname(sys.executable), "pytest"), "--version")
    assert ran.status == 0 and (ran.out + ran.err).startswith("pytest ")
    with ran.trace() as trace:
        assert len(trace.events(module="_pytest.*", kind="call")) > 100


def test_the_users_own_sitecustomize_still_runs(bench):
    (bench.path / "site").mkdir()
    bench.write("import sys; sys.was_here = 'yes'\n", "site/sitecustomize.py")
    bench.environment["PYTHONPATH"] += os.pathsep + str(bench.path / "site")
    source = "import sys, sitecustomize; print(sys.was_here, sitecustomize.__file__)"
    ran = bench.python(source)
    assert ran.out == f"yes {bench.path}/site/sitecustomize.py\n"
    bench.write("raise RuntimeError('broken')\n", "site/sitecustomize.py")
    program = bench.write("print('runs')")
    plain = bench.plain(sys.executable, program)
    ran = bench.record(sys.executable, program)
    # The recorder is a Python program itself and says it first.
    assert (ran.out, ran.err, ran.status) == (plain.out, plain.err * 2, plain.status)


def test_include_and_exclude(bench):
    (bench.path / "shop").mkdir()
    bench.write("", "shop/__init__.py")
    bench.write("import shop.stock\ndef sell(): return shop.stock.take()\n", "shop/desk.py")
    bench.write("def take(): return 1\n", "shop/stock.py")
    program = bench.write("import shop.desk\nshop.desk.sell()\n")
    ran = bench.record(sys.executable, program, options=["-q", "--include", "shop*", "--exclude", "shop.desk"])
    with ran.trace() as trace:
        assert {f.module for f in trace.functions.values()} == {"shop", "shop.stock"}
        assert calls(trace, "take") == 1


@pytest.mark.parametrize("level, kinds", [("calls", {1}), ("returns", {1, 2}), ("c", {1, 2}), ("args", {1, 2})])
def test_levels(bench, level, kinds):
    source = "def f(a, b): return len(a) + b\nfor i in range(100): f('four', i)\n"
    ran = bench.python(source, options=["-q", "--level", level, "--include", "__main__" if level != "c" else "*"])
    with ran.trace() as trace:
        assert calls(trace, "f") == 100
        seen = {int(kind) for one in trace.events(function="f").arrays() for kind in one.events["event_kind"]}
        assert seen == kinds
        assert (calls(trace, "len") >= 100) == (level == "c")
        details = [event.detail for event in trace.events(function="f", kind="call")]
        assert all(d is None for d in details) if level != "args" else [d["args"]["b"] for d in details] == list(range(100)), details[:2]


def test_duration_ends_the_recording_and_not_the_program(bench):
    source = """
        import time
        def before(): pass
        def after(): pass
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            before() if end - time.monotonic() > 0.6 else after()
        print("done")
    """
    ran = bench.python(source, options=["--duration", "300ms", "--json"])
    assert (ran.status, ran.out) == (0, "done\n")
    assert ran.summary["ended"] == "duration" and ran.summary["status"] == 0
    with ran.trace() as trace:
        assert calls(trace, "before") > 1000 and calls(trace, "after") == 0
        assert trace.info["duration_ns"] < 1_000_000_000
        assert trace.check() == []


def test_small_rings_lose_and_say_so_and_block_loses_nothing(bench):
    source = "def f(): pass\nfor i in range(400_000): f()\n"
    ran = bench.python(source, options=["--ring-size", "64K", "--json", "--include", "__main__"])
    with ran.trace() as trace:
        lost = sum(ran.summary["lost"].values())
        assert produced(trace) == 800_002 and sum(trace.info["lost"].values()) == lost
        assert ran.summary["events"] == sum(len(t.events) for t in trace.threads)
    bench.root = bench.path / "blocked"
    ran = bench.python(source, options=["--ring-size", "64K", "--policy", "block", "--json", "--include", "__main__"])
    assert ran.summary["lost"] == {} and ran.summary["events"] == 800_002
    with ran.trace() as trace:
        assert calls(trace, "f") == 400_000


def test_summary_on_standard_error_json_and_quiet(bench):
    ran = bench.python(FIB, options=[])
    assert ran.out == "idle\n" and "events" in ran.err and str(ran.path) in ran.err
    bench.root = bench.path / "second"
    ran = bench.python(FIB, options=["--json"])
    assert ran.summary["processes"] == 1 and ran.summary["path"] == str(ran.path) and ran.summary["errors"] == []
    bench.root = bench.path / "third"
    assert bench.python(FIB).err == ""


@pytest.mark.parametrize(
    "words, said",
    [
        (["no-such-program"], "no-such-program cannot be started: No such file"),
        (["/etc/passwd"], "/etc/passwd cannot be started: Permission denied"),
        ([], "no program"),
    ],
)
def test_what_cannot_be_started(bench, words, said):
    ran = bench.record(*words)
    assert ran.status == 2 and said in ran.err and "Traceback" not in ran.err
    assert not list(bench.root.glob("*"))


@pytest.mark.parametrize("options", [["--level", "all"], ["--ring-size", "3"], ["--ring-size", "x"], ["--duration", "soon"], ["--threads", "0"]])
def test_options_that_make_no_sense(bench, options):
    ran = bench.record(sys.executable, "-c", "print('ran')", options=options)
    assert ran.status == 2 and ran.out == "" and ran.err.startswith("atf: ") and ran.err.count("\n") == 1, ran.err
    assert not list(bench.root.glob("*"))


def test_a_program_that_is_not_python_runs_and_is_told(bench):
    ran = bench.record("/bin/sh", "-c", "echo hi; exit 4", options=[])
    assert (ran.status, ran.out) == (4, "hi\n")
    assert "no Python process was recorded" in ran.err and not list(bench.root.glob("*"))
    ran = bench.record("/bin/sh", "-c", f"{sys.executable} -c 'print(1)'; exit 4", options=["--json"])
    assert (ran.status, ran.out) == (4, "1\n") and ran.summary["processes"] == 1


def test_no_children(bench):
    source = """
        import os, subprocess, sys
        print("ATF_SESSION" in os.environ, os.environ["PYTHONPATH"], flush=True)
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        if not os.fork():
            os._exit(0)
        os.wait()
    """
    ran = bench.python(source, options=["-q", "--no-children"])
    assert ran.out == f"False {bench.environment['PYTHONPATH']}\n"
    assert len(ran.trace().processes) == 1


SLEEPER = """
    import sys, time
    def wait():
        print("ready", flush=True)
        time.sleep(30)
    try:
        wait()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        time.sleep(0.3)
        sys.exit(5)
"""


def ends(program):
    out, err = program.communicate(timeout=20)
    return program.returncode, out, err


def test_ctrl_c_reaches_the_program_once_and_its_status_is_kept(bench):
    program = bench.begin(SLEEPER, start_new_session=True)
    assert program.stdout.readline() == "ready\n"
    os.killpg(program.pid, signal.SIGINT)
    assert ends(program) == (5, "interrupted\n", "")
    (session,) = bench.root.glob("session_*")
    assert json.loads(next(session.glob("pid_*/manifest.json")).read_text())["exit"] == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminating_the_recorder_terminates_the_program_cleanly(bench, number):
    program = bench.begin(SLEEPER)
    assert program.stdout.readline() == "ready\n"
    program.send_signal(number)
    status, _, err = ends(program)
    assert (status, err) == (128 + number, "")
    (session,) = bench.root.glob("session_*")
    manifest = json.loads(next(session.glob("pid_*/manifest.json")).read_text())
    assert manifest["exit"] == -number and manifest["status"] == "complete"


def test_a_program_that_survives_the_signal_goes_on(bench):
    source = """
        import signal, time
        got = []
        signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))
        signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
        print("ready", flush=True)
        while len(got) < 4:
            time.sleep(0.01)
        print(got)
    """
    program = bench.begin(source)
    assert program.stdout.readline() == "ready\n"
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        program.send_signal(number)
        time.sleep(0.1)
    status, out, _ = ends(program)
    assert (status, out) == (0, "[15, 2, 2, 15]\n")  # a first SIGINT is one that the whole group got


def test_status_line_on_a_terminal(bench):
    master, slave = pty.openpty()
    program = bench.begin("import time\nfor _ in range(40): time.sleep(0.02)\n", options=[], stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:
        pass
    os.close(master)
    program.communicate()
    assert b"atf: recording" in seen and b"events" in seen and b"nothing lost" in seen


def test_two_recordings_at_the_same_time(bench):
    program = bench.write(FIB)
    running = [
        subprocess.Popen(bench.command(sys.executable, program, "12", options=["-q"]), env=bench.environment, cwd=bench.path, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [one.communicate()[0] for one in running] == [b"144\n"] * 3
    assert len(list(bench.root.glob("session_*"))) == 3
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in bench.root.glob("session_*"))


def test_readable_while_it_grows(bench):
    source = """
        import time
        def tick(): time.sleep(0.001)
        print("ready", flush=True)
        for _ in range(1500): tick()
    """
    program = bench.begin(source)
    assert program.stdout.readline() == "ready\n"
    import atf

    session = wait_for(lambda: next(bench.root.glob("session_*/pid_*/manifest.json"), None)).parent.parent
    seen = []
    with atf.open(session) as trace:
        while len(seen) < 3:
            wait_for(lambda: trace.refresh() or program.poll() is not None)
            count = len(trace.events())
            if not seen or count > seen[-1]:
                seen.append(count)
            assert program.poll() is None, "the trace did not grow while the program ran"
            time.sleep(0.05)
        assert trace.info["status"] == "recording"
    program.communicate()
    with atf.open(session) as trace:
        assert calls(trace, "tick") == 1500
