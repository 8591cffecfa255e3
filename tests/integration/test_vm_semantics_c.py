"""Level c: C functions, by their defining class, called from included code."""

import sys

import pytest

from vm_recording import here, load, recording


def test_functions_methods_and_callbacks(tmp_path):
    names = load(
        """
        import math
        class L(list): pass
        def key(n): return -n
        def main():
            numbers = L()
            numbers.append(3)
            [].append(1)
            math.sqrt(4)
            sorted(numbers, key=key)
            dict.fromkeys("a")
            "a-b".split("-")
        """
    )
    with recording(tmp_path, "c") as recorded:
        names["main"]()
    assert recorded.lines(full=True) == here(
        """
        call main
          call builtins:list.append
          return builtins:list.append
          call builtins:list.append
          return builtins:list.append
          call math:sqrt
          return math:sqrt
          call builtins:sorted
            call key
            return key
          return builtins:sorted
          call builtins:dict.fromkeys
          return builtins:dict.fromkeys
          call builtins:str.split
          return builtins:str.split
        return main
        """
    )


def test_c_functions_that_raise(tmp_path):
    names = load("def main():\n    try: int.from_bytes(1)\n    except TypeError: pass\n    try: next(iter(()))\n    except StopIteration: pass")
    with recording(tmp_path, "c") as recorded:
        names["main"]()
    assert recorded.lines(full=True) == here(
        """
        call main
          call builtins:int.from_bytes
          exception builtins:int.from_bytes
          call builtins:iter
          return builtins:iter
          call builtins:next
          exception builtins:next
        return main
        """
    )


def test_only_from_included_code_and_not_of_excluded_modules(tmp_path):
    inside = load("import math\ndef main(other): other(); math.floor(1.5); len('a')")
    outside = load("def other(): return abs(-1)")
    outside["__name__"] = "elsewhere"
    exec("def other(): return abs(-1)", outside)
    with recording(tmp_path, "c", exclude=("math",)) as recorded:
        inside["main"](outside["other"])
    assert recorded.lines(full=True) == ["call main", "  call builtins:len", "  return builtins:len", "return main"]


def test_a_call_site_of_many_minds(tmp_path):
    """A site that calls Python functions and C functions: depths hold whatever is seen of it."""
    names = load("def python(x): return x\ndef main():\n    for f in (len, python, abs, python, len, str):\n        f('1' if f is not abs else 1)")
    with recording(tmp_path, "c") as recorded:
        for _ in range(3):
            names["main"]()
    assert recorded.balance() == (0, 0)
    assert recorded.lines().count("  call python") == 6
    assert recorded.lines(full=True)[1] == "  call builtins:len"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the profile hook")
def test_a_c_call_that_began_before(tmp_path):
    opened = []

    def start(n):
        if not opened:
            opened.append(recording(tmp_path, "c"))
            opened.append(opened[0].__enter__())
        return n

    names = load("def key(n): return start(n)\ndef main():\n    sorted([3, 1, 2], key=key)\n    len('a')", start=start)
    names["main"]()
    opened[0].__exit__(None, None, None)
    lines = opened[1].lines(full=True)
    assert lines[:3] == ["call main", "  call key", "  return key"]
    assert lines[-3:] == ["  call builtins:len", "  return builtins:len", "return main"]


def test_many_c_functions(tmp_path):
    """More functions than the table holds at first, each with arguments that it refuses or does not mind."""
    import array
    import binascii
    import cmath
    import collections
    import datetime
    import decimal
    import io
    import math
    import operator
    import unicodedata
    import zlib

    modules = math, cmath, operator, unicodedata, zlib, binascii
    objects = ["", b"", [], (), {}, set(), frozenset(), 1, 1.0, 1j, bytearray(), memoryview(b""), range(1), io.BytesIO(), io.StringIO(), collections.deque()]
    objects += [array.array("b"), decimal.Decimal(1), decimal.Context(), datetime.datetime.min, datetime.timedelta(), io.FileIO, type("T", (), {})]
    owners = [vars(module).values() for module in modules] + [[getattr(one, name, None) for name in dir(one)] for one in objects]
    functions = [f for values in owners for f in values if type(f) is type(len)]
    source = "def main(functions):\n" + "".join(f"    try: functions[{i}](*bad)\n    except Exception: pass\n" for i in range(len(functions)))
    names = load(source, bad=[object()] * 40)
    with recording(tmp_path, "c") as recorded:
        names["main"](functions)
    assert recorded.balance() == (0, 0)
    assert len(set(recorded.threads[0]["function_id"].tolist())) > 600
    called = {recorded.name(number) for number in recorded.threads[0]["function_id"]}
    assert {"math:hypot", "builtins:str.split", "collections:deque.append", "operator:add"} <= {name.replace("_operator", "operator") for name in called}
