"""Processes and threads of a recorded program: each has its own, none is missing."""

import json
import sys

from live import calls, produced

import atf

WORK = """
    import multiprocessing, os, subprocess, sys, threading, time
    def work(n):
        return n if n < 2 else work(n - 1) + work(n - 2)
    WORK_9_CALLS = 109
"""


def by_pid(trace):
    return {process.pid: sum(calls(trace, "work", thread=thread) for thread in process.threads) for process in trace.processes}


def run(bench, source, *options):
    import textwrap

    ran = bench.python(textwrap.dedent(WORK) + textwrap.dedent(source), options=["--json", *options])
    assert ran.status == 0, ran.err
    assert ran.summary["lost"] == {} and ran.summary["errors"] == [], ran.summary
    return ran


def test_forked_children_however_they_end(bench):
    ran = run(
        bench,
        """
        ends = [lambda: os._exit(0), lambda: sys.exit(0), lambda: os.kill(os.getpid(), 9), lambda: os.abort()]
        for end in ends:
            if (pid := os.fork()) == 0:
                work(9)
                end()
            os.waitpid(pid, 0)
        work(4)
        """,
    )
    with ran.trace() as trace:
        assert sorted(by_pid(trace).values()) == [9, 109, 109, 109, 109]
        parents = {p["pid"]: p["parent_pid"] for p in trace.info["processes"]}
        (root,) = [pid for pid, count in by_pid(trace).items() if count == 9]
        assert [parent for pid, parent in parents.items() if pid != root] == [root] * 4
        assert trace.check() == [] and trace.info["status"] == "complete"


def test_an_exception_in_a_forked_child(bench):
    """Through frames that were entered before the fork: the child's traceback is as always, and its trace tells the whole way."""
    source = """
        import os
        def raising(): raise ValueError("in the child")
        def inner():
            if (pid := os.fork()) == 0: raising()
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        def outer(): return inner()
        print(outer(), flush=True)
    """
    plain = bench.plain(sys.executable, bench.write(source))
    ran = bench.python(source, options=["-q", "--include", "__main__"])
    assert (ran.status, ran.out, ran.err) == (plain.status, plain.out, plain.err) == (0, "1\n", plain.err) and "in the child" in ran.err
    with ran.trace() as trace:
        assert trace.check() == [] and trace.info["lost"] == {}
        ends = {process.pid: [] for process in trace.processes}
        for process in trace.processes:
            for thread in process.threads:
                for event in trace.events(thread=thread, kind="exception"):
                    ends[process.pid].append(event.function.name)
        assert sorted(map(tuple, ends.values())) == [(), ("raising", "inner", "outer", "<module>")]


def test_multiprocessing_each_way(bench):
    ran = run(
        bench,
        """
        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                process = multiprocessing.get_context(method).Process(target=work, args=(9,))
                process.start()
                process.join()
                assert process.exitcode == 0
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert pool.map(work, [5] * 8) == [5] * 8
        """,
    )
    with ran.trace() as trace:
        assert sorted(count for count in by_pid(trace).values() if count >= 100) == [109, 109, 109] or sum(by_pid(trace).values()) == 3 * 109 + 8 * 15
        assert sum(by_pid(trace).values()) == 3 * 109 + 8 * 15


def test_subprocess_shell_and_grandchildren(bench):
    bench.write(WORK + "    work(9)\n    if sys.argv[1:]: subprocess.run([sys.executable, *sys.argv], check=True) if sys.argv.pop() else 0\n", "child.py")
    ran = run(
        bench,
        """
        subprocess.run([sys.executable, "child.py"], check=True)
        subprocess.run(f"{sys.executable} child.py again", shell=True, check=True)
        subprocess.run([sys.executable, "-c", "pass"], check=True, preexec_fn=lambda: None)
        """,
    )
    with ran.trace() as trace:
        assert sorted(by_pid(trace).values()) == [0, 0, 109, 109, 109]


def test_exec_gives_the_same_process_another_directory(bench):
    bench.write(WORK + "    work(9)\n", "next.py")
    ran = run(bench, "work(4)\nos.execv(sys.executable, [sys.executable, 'next.py'])\n")
    names = sorted(path.name for path in ran.path.iterdir())
    assert len(names) == 2 and names[1] == names[0] + "_2"
    with ran.trace() as trace:
        assert [sum(calls(trace, "work", thread=t) for t in p.threads) for p in trace.processes] == [9, 109]
        assert [json.loads((ran.path / name / "manifest.json").read_text())["exit"] for name in names] == [0, 0]


def test_a_child_that_outlives_the_program_is_not_waited_for(bench):
    import time

    before = time.monotonic()
    ran = run(
        bench,
        """
        if os.fork() == 0:
            for descriptor in (0, 1, 2): os.close(descriptor)
            for _ in range(400): work(3); time.sleep(0.01)
            os._exit(0)
        time.sleep(0.3)
        """,
    )
    assert time.monotonic() - before < 3
    with ran.trace() as trace:
        (count,) = [count for count in by_pid(trace).values() if count]
        assert 5 * 5 < count < 300 * 5 and trace.check() == []


def test_many_short_children(bench):
    ran = run(
        bench,
        """
        for _ in range(60):
            pids = []
            for _ in range(2):
                if (pid := os.fork()) == 0:
                    work(3)
                    os._exit(0)
                pids.append(pid)
            for pid in pids: os.waitpid(pid, 0)
        """,
    )
    assert ran.summary["processes"] == 121
    with ran.trace() as trace:
        assert sorted(by_pid(trace).values()) == [0] + [5] * 120


def test_a_thread_forks_while_others_record(bench):
    ran = run(
        bench,
        """
        stop = False
        def spin():
            while not stop: work(3)
        threads = [threading.Thread(target=spin) for _ in range(3)]
        for thread in threads: thread.start()
        for _ in range(10):
            if (pid := os.fork()) == 0:
                work(9)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
        stop = True
        for thread in threads: thread.join()
        """,
        *("--policy", "block"),
    )
    with ran.trace() as trace:
        counts = sorted(by_pid(trace).values())
        assert counts[:10] == [109] * 10 and len(counts) == 11 and trace.check() == []


def test_threads_have_names_and_balanced_calls(bench):
    ran = run(
        bench,
        """
        def loop(n):
            for _ in range(n): work(4)
        threads = [threading.Thread(target=loop, args=(n,), name=f"worker-{n}") for n in range(1, 9)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        """,
    )
    with ran.trace() as trace:
        assert {t.name: calls(trace, "work", thread=t) for t in trace.threads} == {"MainThread": 0, **{f"worker-{n}": 9 * n for n in range(1, 9)}}
        assert len({t.tid for t in trace.threads}) == 9 or len(trace.threads) == 9
        assert all(span.status == "ok" for span in trace.spans(function="work"))


def test_more_threads_than_slots_lose_nothing(bench):
    source = """
        barrier = threading.Barrier(20)
        def loop():
            barrier.wait()
            for _ in range(300): work(6)
        threads = [threading.Thread(target=loop) for _ in range(20)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """
    ran = run(bench, source, "--threads", "4", "--policy", "block", "--include", "__main__")
    manifest = json.loads(next(ran.path.glob("pid_*/manifest.json")).read_text())
    assert manifest["counters"]["slotless_threads"] >= 16 and manifest["counters"]["fallback_events"] > 0
    with ran.trace() as trace:
        counts = sorted(calls(trace, "work", thread=t) for t in trace.threads)
        assert counts == [0] + [300 * 25] * 20 and trace.check() == []


def test_more_threads_than_slots_say_what_they_lost(bench):
    source = WORK + """
    def loop():
        for _ in range(20_000): work(3)
    threads = []
    for _ in range(12): threads.append(threading.Thread(target=loop))
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    ran = bench.python(source, options=["--json", "--threads", "2", "--ring-size", "64K", "--include", "__main__"])
    with ran.trace() as trace:
        # 12 times loop() and 20,000 times five calls, and the module; calls and returns.
        assert produced(trace) == 2 * (12 * (1 + 20_000 * 5) + 1)
        assert sum(trace.info["lost"].values()) == sum(ran.summary["lost"].values()) > 0
        assert trace.check() == []


def test_a_thousand_short_threads_reuse_slots(bench):
    ran = run(
        bench,
        """
        for _ in range(100):
            threads = [threading.Thread(target=work, args=(3,)) for _ in range(10)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
        """,
        *("--threads", "16", "--policy", "block", "--include", "__main__"),
    )
    with ran.trace() as trace:
        assert len(trace.threads) == 1001 and sorted({t.number for t in trace.threads}) == list(range(1001))
        assert sorted(calls(trace, "work", thread=t) for t in trace.threads[:50])[1:] == [5] * 49
        assert calls(trace, "work") == 1000 * 5 and len(trace.spans(function="work", status="ok")) == 1000 * 5 and trace.check() == []


def test_daemon_threads_at_exit(bench):
    ran = run(
        bench,
        """
        def spin():
            while True: work(3)
        for n in range(3): threading.Thread(target=spin, daemon=True, name=f"daemon-{n}").start()
        time.sleep(0.3)
        """,
        *("--policy", "block"),
    )
    with ran.trace() as trace:
        assert all(calls(trace, "work", thread=t) > 10 for t in trace.threads if t.name.startswith("daemon"))
        assert len(trace.threads) == 4 and trace.check() == []


def test_a_program_that_records_itself_under_atf_record_is_told(bench):
    ran = bench.python(
        """
        import atf
        try:
            atf.start("elsewhere")
        except atf.SessionError as error:
            print(error)
        with atf.span("mine"): atf.event("here", n=1)
        """
    )
    assert "already" in ran.out and not (bench.path / "elsewhere").exists()
    with ran.trace() as trace:
        assert [s.name.rpartition(".")[2] for s in trace.spans(function="mine")] == ["mine"]


def test_interpreters_that_are_not_followed_run_as_always(bench):
    for flags in (["-I"], ["-E"], ["-S"]):
        bench.root = bench.path / flags[0]
        ran = bench.record(sys.executable, *flags, "-c", "print('ran')", options=[])
        assert (ran.status, ran.out) == (0, "ran\n") and "-I, -E, -S" in ran.err
    assert atf  # imported for its types
