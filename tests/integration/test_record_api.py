"""Recording from inside a program: each test runs a program of its own, since hooks and sessions are the process's."""

import json
import sys

import pytest
from live import calls, existing_segments, produced

import atf

HEAD = """
    import atf, asyncio, json, os, sys, threading, time, warnings
    from atf.errors import *
    OUT = sys.argv[1]
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)
"""


def run(bench, source, strict=True, **more):
    """Run a program; its standard output is one JSON document or nothing."""
    import textwrap

    program = bench.write(textwrap.dedent(HEAD) + textwrap.dedent(source))
    before = existing_segments()
    ran = bench.plain(sys.executable, *(["-W", "error"] if strict else []), program, str(bench.root), **more)
    assert ran.err == "", ran.err
    assert ran.status == 0
    ran.before = before
    return json.loads(ran.out) if ran.out else None


def test_a_with_block_start_and_stop(bench):
    totals, path = run(
        bench,
        """
        with atf.record(OUT) as rec:
            fib(10)
        assert os.path.dirname(rec.path) == OUT
        json.dump([rec.totals, rec.path], sys.stdout)
        """,
    )
    with atf.open(path) as trace:
        assert calls(trace, "fib") == 177
        assert totals["events"] == sum(len(thread.events) for thread in trace.threads) == produced(trace)
        assert totals["lost"] == {} and totals["errors"] == [] and totals["processes"] == 1
        assert {f.module for f in trace.functions.values()} <= {"__main__"}, "atf's own frames are in the trace"


def test_sessions_one_after_the_other_are_each_complete(bench):
    paths = run(
        bench,
        """
        paths = []
        for n in range(3):
            rec = atf.start(OUT, level="args" if n == 1 else "returns")
            fib(n + 5)
            with atf.span("round", n=n): pass
            paths.append(rec.path)
            atf.stop()
            fib(3)
        json.dump(paths, sys.stdout)
        """,
    )
    assert len(set(paths)) == 3
    for path, expected in zip(paths, (15, 25, 41)):
        with atf.open(path) as trace:
            assert calls(trace, "fib", module="__main__") == expected
            assert len(trace.spans(function="round")) == 1
            assert not [f for f in trace.functions.values() if "0x" in f.name], "a name is missing"
            assert trace.check() == []


def test_rings_only_leaves_nothing(bench):
    run(
        bench,
        """
        with atf.record(None) as rec:
            fib(15)
            with atf.span("s"): atf.event("e")
            try:
                atf.start(OUT)
            except SessionError as error:
                assert "already" in str(error)
            else:
                raise AssertionError("a second recording began")
        assert rec.path is None and not os.path.exists(OUT)
        """,
    )


def test_only_one_recording_in_a_process_and_the_first_goes_on(bench):
    path = run(
        bench,
        """
        with atf.record(OUT) as rec:
            for begin in (lambda: atf.start(OUT), lambda: atf.start(None), lambda: atf.record(OUT).__enter__(), rec.start):
                try:
                    begin()
                except SessionError:
                    pass
                else:
                    raise AssertionError("a second recording began")
            fib(8)
        for wrong in (atf.stop, rec.stop):
            try:
                wrong()
            except SessionError:
                continue
            raise AssertionError("nothing to stop")
        assert os.listdir(OUT) == [os.path.basename(rec.path)]
        json.dump(rec.path, sys.stdout)
        """,
    )
    with atf.open(path) as trace:
        assert calls(trace, "fib") == 67


def test_spans_events_and_marks_with_attributes(bench):
    path = run(
        bench,
        """
        with atf.record(OUT, python=False) as rec:
            fib(5)
            with atf.span("checkout", cart=7, user="ann", password="x"):
                atf.event("priced", total=12.5, items=["a", 2], nothing=None)
            try:
                with atf.span("broken"):
                    raise KeyError("gone")
            except KeyError:
                pass
            atf.mark("here", why="look")
            def thread():
                with atf.span("elsewhere"): pass
            t = threading.Thread(target=thread, name="worker"); t.start(); t.join()
        atf.event("after", a=1)
        with atf.span("after"): pass
        json.dump(rec.path, sys.stdout)
        """,
    )
    with atf.open(path) as trace:
        assert [s.name for s in trace.spans()] == ["user.checkout", "user.broken", "user.elsewhere"] or [
            s.name.rpartition(".")[2] for s in trace.spans()
        ] == ["checkout", "broken", "elsewhere"]
        assert [s.status for s in trace.spans()] == ["ok", "exception", "ok"]
        details = {e.function.name: e.detail for e in trace.events() if e.has_detail and e.kind != "exception"}
        assert details["priced"]["attributes"] == {"total": 12.5, "items": ["a", 2], "nothing": None}
        assert details["checkout"]["attributes"]["cart"] == 7 and details["checkout"]["attributes"]["password"] != "x"
        (failed,) = trace.events(kind="exception")
        assert failed.detail["type"].endswith("KeyError") and "gone" in str(failed.detail["message"])
        assert calls(trace, "fib") == 0 and not [e for e in trace.events() if e.function and e.function.name == "after"]
        assert [t.name for t in trace.threads] == ["MainThread", "worker"]


def test_decorators(bench):
    path = run(
        bench,
        """
        @atf.traced
        def plain(a, *, b=1): "doc"; return a + b
        @atf.traced(name="renamed")
        def other(): raise ValueError
        @atf.traced
        def generator(n):
            got = []
            for i in range(n): got.append((yield i))
            return got
        @atf.traced
        async def coroutine(): await asyncio.sleep(0); return 3
        @atf.traced
        async def agenerator():
            for i in range(3): yield i
        class Shop:
            @atf.traced
            def method(self): return self
        async def main():
            assert await coroutine() == 3
            assert [i async for i in agenerator()] == [0, 1, 2]
        assert plain.__name__ == "plain" and plain.__doc__ == "doc" and plain(1) == 2
        with atf.record(OUT, python=False) as rec:
            assert plain(1, b=3) == 4
            try: other()
            except ValueError: pass
            g = generator(2); assert [next(g), g.send("x")] == [0, 1]
            try: g.send("y")
            except StopIteration as stop: assert stop.value == ["x", "y"]
            asyncio.run(main())
            shop = Shop(); assert shop.method() is shop
        json.dump(rec.path, sys.stdout)
        """,
        strict=False,
    )
    with atf.open(path) as trace:
        found = {s.name.removeprefix("user.").removeprefix("__main__."): s.status for s in trace.spans()}
        assert found == {"plain": "ok", "renamed": "exception", "generator": "ok", "coroutine": "ok", "agenerator": "ok", "Shop.method": "ok"}


@pytest.mark.parametrize(
    "wrong",
    ["level='all'", "policy='never'", "include=3", "exclude=['']", "ring_size='much'", "ring_size=3", "slots=0"],
)
def test_what_cannot_be_used(bench, wrong):
    run(
        bench,
        f"""
        try:
            atf.start(OUT, {wrong})
        except UsageError as error:
            assert len(str(error)) > 10
        else:
            raise AssertionError
        assert not os.path.exists(OUT)
        with atf.record(OUT): pass
        """,
    )


def test_a_recording_that_cannot_begin_leaves_nothing_and_the_next_one_works(bench):
    bench.write("a file", "traces")
    path = run(
        bench,
        """
        try:
            atf.start(OUT)
        except OutputError as error:
            assert "Not a directory" in str(error) or "File exists" in str(error), error
        else:
            raise AssertionError
        os.unlink(OUT)
        if sys.version_info < (3, 12):
            sys.monitoring = None
        from atf._core import recorder
        begin, recorder.start_hooks = recorder.start_hooks, lambda *a: (_ for _ in ()).throw(SessionError("taken"))
        for where in (OUT, None):
            try:
                atf.start(where)
            except SessionError as error:
                assert str(error) == "taken"
            else:
                raise AssertionError
            assert not os.path.exists(OUT) or not os.listdir(OUT)
        recorder.start_hooks = begin
        assert threading.active_count() == 1 and len(os.listdir("/proc/self/task")) == 1
        with open("/proc/sysvipc/shm") as file:
            mine = [row for row in file if row.split()[4] == str(os.getpid())]
        assert mine == [], mine
        with atf.record(OUT) as rec: fib(5)
        json.dump(rec.path, sys.stdout)
        """,
    )
    with atf.open(path) as trace:
        assert calls(trace, "fib") == 15


def test_an_exception_in_the_block_passes_and_the_trace_is_complete(bench):
    path = run(
        bench,
        """
        try:
            with atf.record(OUT) as rec:
                fib(6)
                raise LookupError("mine")
        except LookupError:
            pass
        json.dump(rec.path, sys.stdout)
        """,
    )
    with atf.open(path) as trace:
        assert trace.info["status"] == "complete" and calls(trace, "fib") == 25


def test_a_recording_that_nobody_stops_is_completed_at_exit(bench):
    path = run(bench, "rec = atf.start(OUT)\nfib(7)\njson.dump(rec.path, sys.stdout)\n")
    with atf.open(path) as trace:
        assert trace.info["status"] == "complete" and calls(trace, "fib") == 41


def test_forked_children_drain_themselves_into_the_same_session(bench):
    path = run(
        bench,
        """
        import multiprocessing
        sys.stdout.flush()
        with atf.record(OUT) as rec:
            for end in (lambda: os._exit(0), lambda: sys.exit(0), lambda: os.kill(os.getpid(), 9)):
                if (pid := os.fork()) == 0:
                    threads = len(os.listdir("/proc/self/task"))
                    fib(9)
                    end()
                os.waitpid(pid, 0)
            q = multiprocessing.get_context("fork").Process(target=fib, args=(9,)); q.start(); q.join()
            if (late := os.fork()) == 0:
                time.sleep(0.4)
                fib(9)
                os._exit(0) if False else sys.exit(0)
            fib(4)
        os.waitpid(late, 0)
        json.dump(rec.path, sys.stdout)
        """,
    )
    with atf.open(path) as trace:
        # `late` is a copy of the parent that ends the block, prints the path and exits: its output is the parent's too.
        assert sorted(calls(trace, "fib", thread=t) for t in trace.threads) == [9, 109, 109, 109, 109, 109]
        assert {p["status"] for p in trace.info["processes"]} == {"complete"}
        assert trace.check() == []


def test_a_thread_may_fork_while_others_record(bench):
    path = run(
        bench,
        """
        stop = False
        def work():
            while not stop: fib(5)
        with atf.record(OUT, policy="block") as rec:
            threads = [threading.Thread(target=work, name=f"w{n}") for n in range(3)]
            for t in threads: t.start()
            for n in range(10):
                if (pid := os.fork()) == 0:
                    fib(8); os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
            stop = True
            for t in threads: t.join()
        json.dump(rec.path, sys.stdout)
        """,
        strict=False,
    ) if sys.version_info < (3, 12) else pytest.skip("3.12 warns of any fork while threads run")
    with atf.open(path) as trace:
        parent, *children = sorted(trace.processes, key=lambda p: -sum(len(t.events) for t in p.threads))
        assert len(children) == 10 and len(parent.threads) == 4
        assert trace.info["lost"] == {} and trace.check() == []
        for child in children:
            assert [calls(trace, "fib", thread=t) for t in child.threads] == [67]


def test_children_off(bench):
    path = run(
        bench,
        """
        with atf.record(OUT, children=False) as rec:
            if (pid := os.fork()) == 0:
                fib(9); os._exit(0)
            os.waitpid(pid, 0)
        json.dump(rec.path, sys.stdout)
        """,
    )
    assert len(atf.open(path).processes) == 1


def test_killed_without_warning_is_recovered_from_its_segments(bench):
    ran = bench.plain(
        sys.executable,
        bench.write("import atf, os, sys\ndef f(): pass\nrec = atf.start(sys.argv[1])\nfor _ in range(50_000): f()\nos.kill(os.getpid(), 9)\n"),
        str(bench.root),
    )
    assert ran.status == -9
    assert len(bench.segments()) == 3
    assert "stale session" in bench.atf("doctor").out
    done = bench.atf("recover")
    assert done.status == 0 and bench.segments() == set(), done.err
    with ran.trace() as trace:
        assert calls(trace, "f") == 50_000
        assert trace.info["status"] == "recovered" and trace.check() == []
