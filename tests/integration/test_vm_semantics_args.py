"""Level args: what a call was given and what it returned, as far as that is bounded, harmless and no secret."""

import collections
import enum
import sys

import pytest

from vm_recording import load, recording

CUT = "\u2026"


def arguments(tmp_path, source, *values, level="args", repr=False, **keywords):
    """Details of the call ``f(*values, **keywords)``: its arguments and its result."""
    names = load(source)
    with recording(tmp_path, level, repr=repr) as recorded:
        names["f"](*values, **keywords)
    calls, returns = recorded.detail("call", "f"), recorded.detail("return", "f")
    return calls[0]["args"] if calls[0] else None, returns[0]["value"] if returns and returns[0] else None


IDENTITY = "def f(x): return x"


@pytest.mark.parametrize(
    "value, expected",
    [
        (None, None),
        (True, True),
        (False, False),
        *((n, n) for n in (0, 1, -1, 127, 128, 255, 256, 65535, 65536, -32, -33, -128, -129, -32768, -32769, 2**31, -(2**31) - 1, 2**63, 2**64 - 1, -(2**63))),
        (2**64, {"~": "int", "bits": 65}),
        (-(2**63) - 1, {"~": "int", "bits": 64}),
        (1.5, 1.5),
        (float("inf"), float("inf")),
        ("", ""),
        ("é\u20ac\U0001f600", "é\u20ac\U0001f600"),
        ("\ud800", "\ufffd"),
        ("a" * 256, "a" * 256),
        ("a" * 257, "a" * 256 + CUT),
        ("\U0001f600" * 300, "\U0001f600" * 256 + CUT),
        (b"\x00\xff", b"\x00\xff"),
        (b"b" * 300, b"b" * 256 + b"..."),
        ([1, "a", None], [1, "a", None]),
        ((1, (2, 3)), [1, [2, 3]]),
        (list(range(16)), list(range(16))),
        (list(range(17)), [*range(16), {CUT: 17}]),
        ({"a": 1, 2: "b"}, {"a": 1, 2: "b"}),
        (dict.fromkeys(range(20), 0), {**dict.fromkeys(range(16), 0), CUT: 20}),
        ({7}, {"~": "set", "items": [7]}),
        (frozenset([7]), {"~": "frozenset", "items": [7]}),
        ([[[[1]]]], [[[{"~": "list", CUT: 1}]]]),
        ({"a": {"b": {"c": {"d": 1}}}}, {"a": {"b": {"c": {"~": "dict", CUT: 1}}}}),
        (object(), {"~": "builtins.object"}),
        (collections.OrderedDict(a=1), {"~": "collections.OrderedDict"}),
        (collections.namedtuple("Point", "x")(1), {"~": __name__ + ".Point"}),
        (enum.IntEnum("Color", "red").red, {"~": __name__ + ".Color"}),
        (sys, {"~": "builtins.module"}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_value(tmp_path, value, expected):
    assert arguments(tmp_path, IDENTITY, value) == ({"x": expected}, expected)


def test_all_kinds_of_parameters(tmp_path):
    source = """
        def f(first, /, second, third=3, *rest, key, other=5, **more):
            def inner(): return first, key  # cells
            return inner
    """
    found, _ = arguments(tmp_path, source, 1, 2, key="k", extra=True)
    assert found == {"first": 1, "second": 2, "third": 3, "key": "k", "other": 5, "rest": [], "more": {"extra": True}}
    found, _ = arguments(tmp_path, source, 1, 2, 30, 40, 50, key="k", other=6)
    assert found == {"first": 1, "second": 2, "third": 30, "key": "k", "other": 6, "rest": [40, 50], "more": {}}


def test_generators_and_methods(tmp_path):
    names = load(
        """
        class C:
            def numbers(self, n):
                captured = lambda: n
                yield n
                return "end"
        def main(): list(C().numbers(4))
        """
    )
    with recording(tmp_path, "args") as recorded:
        names["main"]()
    assert recorded.detail("call", "numbers") == [{"args": {"self": {"~": "shapes.C"}, "n": 4}}]
    assert recorded.detail("yield", "numbers") == [{"value": 4}]
    assert recorded.detail("return", "numbers") == [{"value": "end"}]


def test_secrets(tmp_path):
    found, result = arguments(
        tmp_path,
        "def f(user, db_password, API_KEY, *args, **options): return options",
        "ann",
        "hunter2",
        "k",
        {"Session-Id": "s", "Authorization": "Bearer", "X-Api-Key": "k", "cookie": 1, "plain": {"client_secret": ["a"]}},
        access_token="t",
        limit=3,
    )
    assert found == {
        "user": "ann",
        "db_password": "***",
        "API_KEY": "***",
        "args": [{"Session-Id": "***", "Authorization": "***", "X-Api-Key": "***", "cookie": "***", "plain": {"client_secret": "***"}}],
        "options": {"access_token": "***", "limit": 3},
    }
    assert result == {"access_token": "***", "limit": 3}
    # Where a secret's name is the function's own, its result is one.
    names = load("def get_token(): return 'abc'\ndef main(): get_token()")
    with recording(tmp_path / "b", "args") as recorded:
        names["main"]()
    assert recorded.detail("return", "get_token") == [{"value": "***"}]


HOSTILE = """
    log = []
    def note(name):
        def method(self, *args): log.append(name); raise RuntimeError(name)
        return method
    special = "__repr__ __str__ __len__ __eq__ __hash__ __iter__ __getattribute__ __bool__ __getitem__ __contains__ __format__ __index__ __class_getitem__".split()
    body = {name: note(name) for name in special}
    Meta = type("Meta", (type,), {"__repr__": note("meta"), "__getattribute__": note("meta")})
    class Dict(dict): pass
    Plain = type("Plain", (), body)
    Lies = type("Lies", (list,), body)
    Odd = Meta("Odd", (), {})
    def f(*things, **named): return things
"""


def test_no_code_of_the_programs_runs(tmp_path):
    names = load(HOSTILE)
    odd, plain, lies = (type.__call__(names[name]) for name in ("Odd", "Plain", "Lies"))
    with recording(tmp_path, "args") as recorded:
        names["f"](odd, plain, lies, [plain, {"k": lies}], key=odd)
    assert names["log"] == []
    things = [{"~": "shapes.Odd"}, {"~": "shapes.Plain"}, {"~": "shapes.Lies"}, [{"~": "shapes.Plain"}, {"k": {"~": "shapes.Lies"}}]]
    assert recorded.detail("call", "f") == [{"args": {"things": things, "named": {"key": {"~": "shapes.Odd"}}}}]


def test_repr_when_asked_for(tmp_path):
    source = """
        class Fine:
            def __repr__(self): return "Fine!" + helper()
        class Bad:
            def __repr__(self): raise ValueError("bad repr")
        class Nested:
            def __repr__(self): return f(Fine()) or repr([self])
        class Shrinks:
            def __repr__(self): everything.clear(); return "gone"
        def helper(): return "?"
        everything = []
        def f(x): return None
    """
    names = load(source)
    names["everything"] += [names["Shrinks"](), 1, 2, 3]
    with recording(tmp_path, "args", repr=True) as recorded:
        try:
            raise KeyError("kept")
        except KeyError as error:
            for value in (names["Fine"](), names["Bad"](), names["Nested"](), names["everything"]):
                names["f"](value)
            assert sys.exc_info()[1] is error
    found = [detail["args"]["x"] for detail in recorded.detail("call", "f") if detail]
    outer = [value for value in found if value != {"~": "shapes.Fine"}]
    assert outer[0] == {"~": "shapes.Fine", "repr": "Fine!?"}
    assert outer[1] == {"~": "shapes.Bad"}
    assert outer[2]["~"] == "shapes.Nested"
    assert outer[3] == [{"~": "shapes.Shrinks", "repr": "gone"}, {CUT: 4}]
    assert recorded.balance() == (0, 0)


def test_huge_arguments_are_cut_to_the_size_of_a_detail(tmp_path):
    text = "\U0001f600" * 5000
    wide = {f"key{i}": [text] * 100 for i in range(50)}
    found, result = arguments(tmp_path, "def f(a, b, c, *rest): return a", wide, wide, [wide] * 16, wide)
    assert next(iter(found["a"]["key0"])) == "\U0001f600" * 256 + CUT
    assert CUT in found and found[CUT] == 4  # the later arguments did not fit
    assert found["a"][CUT] == 50 and result[CUT] == 50


def test_many_arguments(tmp_path):
    names = ", ".join(f"a{i}" for i in range(300))
    found, _ = arguments(tmp_path, f"def f({names}): pass", *range(300))
    assert found == {f"a{i}": i for i in range(300)}


def test_containers_within_themselves(tmp_path):
    loop = [1]
    loop.append(loop)
    found, _ = arguments(tmp_path, IDENTITY, loop)
    assert found == {"x": [1, [1, [1, {"~": "list", CUT: 2}]]]}


def test_c_functions_and_args_together(tmp_path):
    names = load("def f(x): return len(x)")
    with recording(tmp_path, "c,args") as recorded:
        names["f"]([1, 2])
    assert recorded.lines(details=True) == [
        "call f {'args': {'x': [1, 2]}}",
        "  call builtins:len",
        "  return builtins:len",
        "return f {'value': 2}",
    ]
