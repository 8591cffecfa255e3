"""Which function and thread of one trace is which of another."""

from types import SimpleNamespace

import pytest

from atf.query.alignment import pair_functions, pair_threads
from atf.query.spangroups import Label

pytestmark = pytest.mark.at_rest


def functions(*said):
    return [Label(name, module, file, line) for module, name, file, line in said]


def test_functions_of_one_name_and_module_are_one_wherever_they_lie():
    before = functions(("app", "run", "/old/app.py", 3), ("app", "stop", "/old/app.py", 9), ("lib", "run", "/old/lib.py", 1))
    after = functions(("lib", "run", "/new/lib.py", 1), ("app", "run", "/new/app.py", 30), ("app", "go", "/new/app.py", 9))
    assert pair_functions(before, after) == [(0, 1), (1, None), (2, 0), (None, 2)]


def test_several_of_one_name_go_by_file_then_line_then_order():
    before = functions(("app", "<lambda>", "/a/x.py", 3), ("app", "<lambda>", "/a/x.py", 8), ("app", "<lambda>", "/a/y.py", 5))
    after = functions(("app", "<lambda>", "/b/y.py", 6), ("app", "<lambda>", "/b/x.py", 8), ("app", "<lambda>", "/b/x.py", 4))
    assert pair_functions(before, after) == [(0, 2), (1, 1), (2, 0)]
    more = [*after, Label("<lambda>", "app", "/b/x.py", 2)]
    assert pair_functions(before, more) == [(0, 2), (1, 1), (2, 0), (None, 3)]


def process(pid, argv, parent=1):
    return SimpleNamespace(pid=pid, info={"argv": argv, "parent_pid": parent})


def threads(process, *names):
    return [SimpleNamespace(process=process, name=name) for name in names]


def test_threads_go_by_process_and_name():
    main, child = process(5, ["python", "-X", "dev", "/srv/app.py", "1"]), process(6, ["/srv/app.py"], 5)
    other, born = process(70, ["python3.11", "app.py", "2"]), process(80, ["python", "app.py"], 70)
    before = threads(main, "MainThread", "Thread-1 (work)", "Thread-2 (work)") + threads(child, "MainThread")
    after = threads(born, "MainThread") + threads(other, "Thread-9 (work)", "MainThread", "io")
    assert pair_threads(before, after) == [(0, 2), (1, 1), (2, None), (3, 0), (None, 3)]


def test_a_process_that_says_nothing_goes_by_the_names_of_its_threads():
    assert pair_threads(threads(process(5, None), "MainThread"), threads(process(9, ["x.py"]), "MainThread")) == [(0, 0)]
