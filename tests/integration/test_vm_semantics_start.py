"""Recording that starts and stops in the middle of things: calls in progress, threads that run already, filters, second sessions."""

import sys
import threading

import pytest

from vm_recording import here, load, recording

import atf
from atf._core import recorder
from atf.recording import active

OLD = sys.version_info < (3, 12)


def test_hooks_go_when_the_recorder_ends_the_recording(tmp_path):
    """As after --duration: the program runs on and pays nothing more; a new recording sees its calls again."""
    names = load("def tick(): pass\ndef main(n):\n    for _ in range(n): tick()\n")
    with atf.record(None, include=["shapes*"]):
        assert recorder.mechanism() != ""
        names["main"](10)
        active().segments.segments.stop()
        for _ in range(100):  # the interpreter comes to what it was asked for between two instructions
            names["main"](10)
        assert recorder.mechanism() == ""
    with recording(tmp_path) as recorded:
        names["main"](10)
    assert recorded.lines().count("  call tick") == 10


class Switch:
    """Starts and stops recording from inside the program that is recorded."""

    def __init__(self, *args, **options):
        self._open = recording(*args, **options)

    def start(self):
        self.recorded = self._open.__enter__()

    def stop(self):
        self._open.__exit__(None, None, None)


@pytest.mark.parametrize("level", ["returns", "c"])
def test_calls_in_progress(tmp_path, level):
    switch = Switch(tmp_path, level, exclude=("builtins",))
    names = load(
        """
        def leaf(): pass
        def deep():
            switch.start()
            leaf()
        def middle():
            deep()
            leaf()
        def main():
            middle()
            leaf()
            switch.stop()
        """,
        switch=switch,
    )
    names["main"]()
    # The ends of calls that began before are told at once, or, by the frame evaluator, at the next call.
    assert switch.recorded.lines() == here(
        """
        call main
          call middle
            call deep
              call leaf
              return leaf
            return deep
            call leaf
            return leaf
          return middle
          call leaf
          return leaf
        """
    )
    assert switch.recorded.entered[0] == 3


def test_calls_in_progress_that_were_called_again(tmp_path):
    """The frames of a second round may lie where those of the first one lay."""
    switch = Switch(tmp_path)
    names = load(
        """
        def work(n):
            if n == 1: switch.start()
            leaf()
        def leaf(): pass
        def main():
            for n in range(3): work(n)
            switch.stop()
        """,
        switch=switch,
    )
    names["main"]()
    assert switch.recorded.lines() == here(
        """
        call main
          call work
            call leaf
            return leaf
          return work
          call work
            call leaf
            return leaf
          return work
        """
    )


def test_a_generator_that_was_suspended_at_the_start(tmp_path):
    names = load("def numbers():\n    yield 1\n    yield 2\ndef main(g):\n    for _ in g: pass")
    generator = names["numbers"]()
    next(generator)
    with recording(tmp_path) as recorded:
        names["main"](generator)
    assert recorded.lines() == here(
        """
        call main
          resume numbers
          yield numbers
          resume numbers
          return numbers
        return main
        """
    )


@pytest.mark.parametrize("level", ["returns", "c"])
def test_threads_that_run_already_and_new_ones(tmp_path, level):
    ready, go = threading.Event(), threading.Event()
    names = load(
        """
        def leaf(): pass
        def loop():
            ready.set()
            go.wait()
            leaf()
        def fresh(): leaf()
        """,
        ready=ready,
        go=go,
    )
    old = threading.Thread(target=names["loop"], daemon=True)
    old.start()
    ready.wait()
    with recording(tmp_path, level, exclude=("threading", "builtins", "_thread")) as recorded:
        go.set()
        old.join()
        new = threading.Thread(target=names["fresh"])
        new.start()
        new.join()
    shapes = sorted(recorded.lines(i) for i in range(len(recorded.threads)))
    # Nobody tells the frame evaluator when a call ends that began before it, and no further call comes.
    last = [] if recorded.hooks == "eval frame" else ["return loop"]
    assert shapes == [["call fresh", "  call leaf", "  return leaf", "return fresh"], ["call loop", "  call leaf", "  return leaf", *last]]


def test_stop_inside_a_call(tmp_path):
    switch = Switch(tmp_path)
    names = load("def f(): switch.stop()\ndef main(): f()", switch=switch)
    switch.start()
    names["main"]()
    assert switch.recorded.lines() == ["call main", "  call f"]


def test_a_second_session_inside_the_first_ones_call(tmp_path):
    first, second = Switch(tmp_path / "a"), Switch(tmp_path / "b")
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    names = load(
        """
        def leaf(): pass
        def inner():
            first.stop()
            second.start()
            leaf()
        def main():
            inner()
            leaf()
        """,
        first=first,
        second=second,
    )
    first.start()
    names["main"]()
    second.stop()
    assert first.recorded.lines() == ["call main", "  call inner"]
    tail = [] if second.recorded.hooks == "eval frame" else ["return main"]
    assert second.recorded.lines() == here(
        """
        call main
          call inner
            call leaf
            return leaf
          return inner
          call leaf
          return leaf
        """
    ) + (tail or ["return main"])
    assert {second.recorded.name(i) for i in second.recorded.names} == {"main", "inner", "leaf"}


PARENT = """
def parent(f): return f()
"""
CHILD = """
def leaf(): pass
def child():
    leaf()
    raise KeyError("gone")
"""


def test_an_excluded_parent_hides_no_children(tmp_path):
    parent, child = load(PARENT), load(CHILD)
    parent["__name__"] = "framework.core"
    exec(PARENT, parent)
    with recording(tmp_path, include=(), exclude=("framework.*", "test_*", "vm_*", "contextlib", "_pytest*")) as recorded:
        with pytest.raises(KeyError):
            parent["parent"](child["child"])
    lines = [line for line in recorded.lines(full=True) if line.split()[1] in ("child", "leaf", "parent")]
    indent = len(lines[0]) - len(lines[0].lstrip())  # the test's own callers
    assert [line[indent:] for line in lines] == ["call child", "  call leaf", "  return leaf", "exception child"]


def test_filters_of_a_second_session_are_its_own(tmp_path):
    """What the first session disabled comes back; function ids stay."""
    names = load("def f(): pass\ndef main():\n    for _ in range(3): f()")
    ids = []
    for n, (include, count) in enumerate([(("shapes",), 8), (("nothing*",), 0), (("shapes",), 8), (("shap[a-f]s",), 8), (("shap[!a-f]s",), 0), (("sh?pes",), 8)]):
        directory = tmp_path / str(n)
        directory.mkdir()
        with recording(directory, include=include) as recorded:
            names["main"]()
        assert sum(map(len, recorded.threads)) == count, include
        if count:
            ids.append(set(recorded.names))
    assert len(ids) == 4 and all(one == ids[0] for one in ids)


def test_a_plain_name_stands_for_all_below_it(tmp_path):
    seen = {}
    for include in ("shop", "shop.*", "sho", "shop.car?", "shop.cart"):
        functions = []
        for module in ("shop", "shop.cart", "shop.cart.lines", "shopping"):
            namespace = {"__name__": module}
            exec("def f(): pass", namespace)
            functions.append(namespace["f"])
        with recording(tmp_path / include.replace("*", "all"), include=(include,)) as recorded:
            for function in functions:
                function()
        seen[include] = set(recorded.modules.values())
    assert seen == {
        "shop": {"shop", "shop.cart", "shop.cart.lines"},
        "shop.*": {"shop.cart", "shop.cart.lines"},
        "sho": set(),
        "shop.car?": {"shop.cart"},
        "shop.cart": {"shop.cart", "shop.cart.lines"},
    }


def test_atf_is_never_recorded(tmp_path):
    own = load("def f(): pass")
    own["__name__"] = "atf.somewhere"
    exec("def g(): pass\ndef main(): g()", own)
    with recording(tmp_path, include=("atf*", "*")) as recorded:
        own["main"]()
    assert "main" not in {name for name, _, _ in recorded.names.values()}
    assert not [m for m in recorded.modules.values() if m == "atf" or m.startswith("atf.")]


def test_a_dead_functions_id_is_never_given_again(tmp_path):
    with recording(tmp_path) as recorded:
        for n in range(300):
            load(f"def f{n}(): pass")[f"f{n}"]()
    called = [e["function_id"] for e in recorded.threads[0] if recorded.name(e["function_id"]).startswith("f")]
    assert len(set(called)) == 300
    assert [recorded.name(i) for i in dict.fromkeys(called)] == [f"f{n}" for n in range(300)]


def test_names_files_and_lines(tmp_path):
    names = load("\n\ndef f(): pass\nclass C:\n    def method(self): pass\ndef main():\n    f()\n    C().method()")
    with recording(tmp_path) as recorded:
        names["main"]()
    found = {name: line for name, line, _file in recorded.names.values()}
    assert found == {"f": 3, "C.method": 5, "main": 6}
    assert set(recorded.modules.values()) == {"shapes"}


@pytest.mark.parametrize(
    "include, exclude, message",
    [((1,), (), r"include\[0\] must be a str"), ((), (b"x",), r"exclude\[0\] must be a str")],
)
def test_filters_that_are_no_strings(include, exclude, message):
    from atf._core import recorder
    from atf.errors import UsageError

    with pytest.raises(UsageError, match=message):
        recorder.start_hooks(2, include, exclude)
    assert recorder.mechanism() == ""


@pytest.mark.skipif(OLD, reason="sys.monitoring")
def test_tool_ids_taken_by_others(tmp_path):
    from atf.errors import SessionError

    taken = [i for i in range(6) if sys.monitoring.get_tool(i) is None]
    try:
        for i in taken[:-1]:
            sys.monitoring.use_tool_id(i, f"other{i}")
        names = load("def main(): pass")
        with recording(tmp_path) as recorded:
            names["main"]()
        assert recorded.lines() == ["call main", "return main"]
        sys.monitoring.use_tool_id(taken[-1], "last")
        with pytest.raises(SessionError, match="other3.*stop one of these"):
            with recording(tmp_path):
                pass
    finally:
        for i in taken:
            if sys.monitoring.get_tool(i):
                sys.monitoring.free_tool_id(i)


@pytest.mark.skipif(OLD, reason="sys.monitoring")
def test_nothing_is_left_in_the_interpreter(tmp_path):
    before = [sys.monitoring.get_tool(i) for i in range(6)]
    with recording(tmp_path):
        assert "atf" in [sys.monitoring.get_tool(i) for i in range(6)]
    assert [sys.monitoring.get_tool(i) for i in range(6)] == before
