"""The program behaves as it does without a recorder: exceptions, tracebacks, limits, signals, memory, fork."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import traceback

import pytest

from vm_recording import load, recording

LEVELS = ["calls", "returns", "c", "args", "c,args"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(tmp_path, body, after="", level="returns"):
    """Runs a script in a process of its own, its body inside ``with recording(...) as recorded``; returns the finished process."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys, threading\nsys.path[:0] = [{ROOT!r}, {os.path.dirname(os.path.abspath(__file__))!r}]\n"
        f"from vm_recording import recording\n"
        f"with recording({str(tmp_path)!r}, {level!r}, include=('__main__',)) as recorded:\n"
        f"{textwrap.indent(textwrap.dedent(body), '    ')}\n{textwrap.dedent(after)}"
    )
    return subprocess.run([sys.executable, "-W", "error", str(script)], capture_output=True, text=True, timeout=60)


DEEP = """
depth = 0
def down():
    global depth
    depth += 1
    down()
def main():
    global depth
    depth = 0
    try: down()
    except RecursionError as error: return depth, str(error)
class Deep:
    def __getattr__(self, name): return getattr(self, name + "x")
def through_c():
    try: Deep().a
    except RecursionError: return "caught"
"""


@pytest.mark.parametrize("level", LEVELS)
def test_recursion_error_comes_at_the_same_depth(tmp_path, level):
    names = load(DEEP)
    plain = names["main"](), names["through_c"]()
    with recording(tmp_path, level) as recorded:
        traced = names["main"](), names["through_c"]()
        after = names["main"]()
    assert traced == plain and after == plain[0]
    if level != "calls":
        assert recorded.balance() == (0, 0)


@pytest.mark.parametrize("level", LEVELS)
def test_exceptions_and_tracebacks_are_the_same(tmp_path, level):
    names = load(
        """
        class Strange(Exception):
            def __str__(self): raise RuntimeError("never asked")
            __repr__ = __str__
            args = property(__str__)
        def raising(): raise Strange("a", 1)
        def middle():
            try: raising()
            except Strange: raise ValueError("outer")
        def generator():
            try: yield 1
            finally: raising()
        def main():
            started = generator()
            next(started)
            for call in (raising, middle, lambda: list(generator()), started.close):
                try: call()
                except Exception as error:
                    e, chain = error, []
                    while e: chain.append((type(e).__name__, lines(e))); e = e.__context__
                    yield chain, sys.exc_info()[1] is error
        """,
        sys=sys,
        lines=lambda e: [(f.name, f.lineno) for f in traceback.extract_tb(e.__traceback__)],
    )
    plain = list(names["main"]())
    with recording(tmp_path, level):
        traced = list(names["main"]())
    assert traced == plain


def test_the_detail_of_an_exception(tmp_path):
    names = load(
        """
        class Odd(Exception):
            def __str__(self): raise RuntimeError("never asked")
        def f(error): raise error
        def main(errors):
            for error in errors:
                try: f(error)
                except BaseException: pass
        """
    )
    errors = [ValueError("x" * 300), KeyError(3), names["Odd"]("text"), names["Odd"](object()), OSError(9999, "No such file"), ZeroDivisionError(), KeyboardInterrupt(), ValueError("\ud800é")]
    with recording(tmp_path) as recorded:
        names["main"](errors)
    found = recorded.detail("exception", "f")
    assert [(d["type"], d["message"]) for d in found] == [
        ("builtins.ValueError", "x" * 200),
        ("builtins.KeyError", "3"),
        ("shapes.Odd", "text"),
        ("shapes.Odd", ""),
        ("builtins.OSError", "No such file"),
        ("builtins.ZeroDivisionError", ""),
        ("builtins.KeyboardInterrupt", ""),
        ("builtins.ValueError", "\ufffdé"),
    ]


@pytest.mark.parametrize("level", ["returns", "c"])
def test_keyboard_interrupt_anywhere(tmp_path, level):
    """Forbidden: an exit without its entry, or an entry without its exit, wherever the signal is delivered."""
    names = load(
        """
        def leaf(n): return n
        def numbers():
            while True: yield leaf(1)
        def spin():
            for n in numbers(): leaf(n)
        def main():
            try: spin()
            except KeyboardInterrupt: pass
        """
    )
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with recording(tmp_path, level, exclude=("builtins",)) as recorded:
            for _ in range(25):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.001)
                    names["main"]()
                except KeyboardInterrupt:  # it came before main's try
                    pass
    finally:
        signal.signal(signal.SIGALRM, before)
    lines = recorded.lines()
    assert recorded.balance() == (0, 0)
    assert {line for line in lines if line.lstrip() == "call main"} == {"call main"} and lines.count("call main") >= 20


@pytest.mark.parametrize("level", ["returns", "c"])
def test_asynchronous_exceptions(tmp_path, level):
    """Forbidden: a depth that is off after an exception which another thread raised here, wherever it struck."""
    done = run(
        tmp_path,
        """
        import ctypes
        sys.setswitchinterval(1e-5)
        def leaf(): pass
        def numbers():
            while True:
                try: yield leaf()
                except ZeroDivisionError: leaf()
        def spin():
            for _ in numbers(): leaf()
        def rounds():
            while True:
                try: spin()
                except ZeroDivisionError: pass
        def target():
            began.set()
            for _ in range(30):
                try: rounds()
                except ZeroDivisionError: pass
        threading.excepthook = lambda args: None
        strike = ctypes.pythonapi.PyThreadState_SetAsyncExc
        for _ in range(4):
            began = threading.Event()
            thread = threading.Thread(target=target)
            thread.start()
            began.wait()
            for _ in range(25):
                strike(ctypes.c_ulong(thread.ident), ctypes.py_object(ZeroDivisionError))
                thread.join(0.0005)
            while thread.is_alive():
                strike(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))
                thread.join(0.002)
        """,
        """
        own = [number for number, (name, _line, _file) in recorded.names.items() if name == "target"]
        struck = [recorded.balance(i) for i, events in enumerate(recorded.threads) if own[0] in events["function_id"]]
        print(len(struck), set(struck))
        """,
        level,
    )
    assert done.returncode == 0, done.stderr
    count, balances = done.stdout.split(" ", 1)
    assert int(count) == 4 and balances == "{(0, 0)}\n"


def test_memory_error(tmp_path):
    names = load("def f(): return [0] * (1 << 62)\ndef main():\n    try: f()\n    except MemoryError: pass")
    with recording(tmp_path, "args") as recorded:
        names["main"]()
    assert recorded.lines() == ["call main", "  call f", "  exception f", "return main"]


@pytest.mark.parametrize("level", LEVELS)
def test_no_reference_is_kept(tmp_path, level):
    names = load(
        """
        class Thing: pass
        def f(a, *args, key=None, **more): return a
        def generator(a): yield a
        def bad(a): raise ValueError(a)
        def main(thing, text):
            f(thing, thing, key=thing, other=thing)
            f([thing, {text: thing}], {thing}, (thing,))
            for _ in generator(thing): pass
            list(map(f, [thing]))
            try: bad(thing)
            except ValueError: pass
        """
    )
    thing, text = names["Thing"](), "".join(["te", "xt"])
    error = names["bad"].__code__
    names["main"](thing, text)
    gc.collect()
    before = sys.getrefcount(thing), sys.getrefcount(text), sys.getrefcount(names["Thing"]), sys.getrefcount(error)
    with recording(tmp_path, level):
        for _ in range(300):
            names["main"](thing, text)
    gc.collect()
    assert (sys.getrefcount(thing), sys.getrefcount(text), sys.getrefcount(names["Thing"]), sys.getrefcount(error)) == before


def test_code_objects_die(tmp_path):
    import weakref

    with recording(tmp_path):
        names = load("def f(): pass")
        names["f"]()
        died = weakref.ref(names["f"].__code__)
        del names
        gc.collect()
        assert died() is None


def test_exit_status_and_output(tmp_path):
    done = run(tmp_path, "def f():\n    print('out'); print('err', file=sys.stderr); sys.exit(7)\nf()\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


@pytest.mark.parametrize("level", ["returns", "c", "args"])
def test_a_recursion_limit_raised_in_mid_run(tmp_path, level):
    """Deep recursion survives wherever the plain interpreter survives it; the record has no break at the change of hooks."""
    deep = 40000 if sys.version_info >= (3, 11) else 11000  # 3.10 takes C stack for every call by itself
    done = run(
        tmp_path,
        f"""
        def down(n): return 0 if n == 0 else 1 + down(n - 1)
        def work():
            down(3)
            sys.setrecursionlimit({deep + 1000})
            down({deep})
            down(2)
        def main(): work()
        main()
        sys.setrecursionlimit(1000)
        down(1)
        """,
        """
        assert recorded.balance()[1] >= 0
        events = recorded.threads[0]
        down = [number for number, (name, _line, _file) in recorded.names.items() if name == "down"][0]
        own = events[events["function_id"] == down]
        print(sum(own["event_kind"] == 1), sum(own["event_kind"] == 2), max(events["call_depth"]))
        recorded.threads[0] = events[events["function_id"] != down]
        print([line.strip() for line in recorded.lines() if "builtins" not in line and "sys:" not in line])
        """,
        level,
    )
    assert done.returncode == 0, done.stderr
    counts, others = done.stdout.splitlines()
    calls, returns, deepest = map(int, counts.split())
    assert calls == returns == 4 + deep + 1 + 3 + 2
    assert deepest == deep + 1 + 3
    assert eval(others) == ["call <module>", "call main", "call work", "return work", "return main"]


def test_small_thread_stacks(tmp_path):
    deep = 900 if sys.version_info >= (3, 11) else 200
    done = run(
        tmp_path,
        f"""
        def down(n): return 0 if n == 0 else 1 + down(n - 1)
        def target(): print(down({deep}))
        threading.stack_size(256 * 1024)
        t = threading.Thread(target=target)
        t.start()
        t.join()
        """,
    )
    assert done.returncode == 0 and done.stdout == f"{deep}\n", done.stderr


def test_fork(tmp_path):
    """A forked child of a recorded process runs on with no hooks of its parent's."""
    from atf._core import recorder

    names = load("def f(): return 5\ndef main(): return f()")
    with recording(tmp_path) as recorded:
        pid = os.fork() if sys.version_info < (3, 12) else None
        if pid == 0:
            recorder.stop_hooks(True)
            os._exit(0 if names["main"]() == 5 and recorder.mechanism() == "" else 1)
        names["main"]()
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
    assert recorded.lines() == ["call main", "  call f", "  return f", "return main"]
