"""Triggers as the command line spells them: what they mean, and where a wrong one is wrong."""

import datetime
import os
import signal
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atf._core.errors import UsageError
from atf.expression import FIELDS, Expression, NotAnExpression
from atf.triggers import Trigger, next_clock_window, parse, parse_all

RIGHT = [
    ("symbol=run", {"kind": "symbol", "names": ("run",)}),
    ("symbol=app::run,git::cmd_add,a.b", {"kind": "symbol", "names": ("app::run", "git::cmd_add", "a.b")}),
    ("symbol=Store.put", {"kind": "symbol", "names": ("Store.put",)}),
    ("symbol=operator<", {"kind": "symbol", "names": ("operator<",)}),
    ("exception=ValueError", {"kind": "exception", "text": "ValueError"}),
    ("exception=app.errors.Refused", {"kind": "exception", "text": "app.errors.Refused"}),
    ("exception=*", {"kind": "exception", "text": "*"}),
    ("duration=app::slow>50ms", {"kind": "duration", "names": ("app::slow",), "threshold_ns": 50_000_000}),
    ("duration=f > 1.5 us", {"kind": "duration", "names": ("f",), "threshold_ns": 1500}),
    ("duration=f>.5s", {"kind": "duration", "names": ("f",), "threshold_ns": 500_000_000}),
    ("duration=f>2min", {"kind": "duration", "names": ("f",), "threshold_ns": 120 * 10**9}),
    ("duration=f>3m", {"kind": "duration", "names": ("f",), "threshold_ns": 180 * 10**9}),
    ("crash", {"kind": "crash"}),
    ("signal=SIGUSR1", {"kind": "signal", "number": signal.SIGUSR1}),
    ("signal=usr2", {"kind": "signal", "number": signal.SIGUSR2}),
    ("time=+30s", {"kind": "time", "seconds": (30.0, None)}),
    ("time=+250ms-+1.5s", {"kind": "time", "seconds": (0.25, 1.5)}),
    ("time=10:30-10:45", {"kind": "time", "clock": (37800, 38700)}),
    ("time=23:59:30-0:01", {"kind": "time", "clock": (86370, 60)}),
    ("python= depth > 3", {"kind": "python", "text": "depth > 3"}),
]


@pytest.mark.parametrize(("said", "meant"), RIGHT, ids=[one[0] for one in RIGHT])
def test_what_they_mean(said, meant):
    assert parse(said) == Trigger(said, **meant)


# Text, the place that the caret points at, what it says.
WRONG = [
    ("", 0, "begin with"),
    ("nonsense", 0, "begin with"),
    ("symbols=run", 0, "begin with"),
    ("symbol=", 7, "write what follows symbol="),
    ("symbol", 6, "write what follows symbol="),
    ("exception=  ", 10, "write what follows"),
    ("crash=now", 5, "stands alone"),
    ("symbol=a,,b", 9, "a name is empty"),
    ("symbol=a,", 9, "a name is empty"),
    ("symbol=a, b", 9, "' b' is no name"),
    ("symbol=a,b::", 9, "is no name"),
    ("symbol=::b", 7, "is no name"),
    ("symbol~=a(b", 9, "not a regular expression"),
    ("symbol~=*a", 8, "nothing to repeat"),
    ("symbol~=ab[", 10, "unterminated"),
    ("symbol~=a{99999999999}", 8, "not a regular expression"),
    ("exception=a b", 10, "write the exception's class"),
    ("exception=a..b", 10, "write the exception's class"),
    ("exception=" + "x" * 120, 129, "too long"),
    ("exception=" + "ä" * 60, 69, "too long"),
    ("duration=run", 12, "write NAME>50ms"),
    ("duration=>5ms", 9, "which function"),
    ("duration=f>5", 11, "is not a duration"),
    ("duration=f>fast", 11, "is not a duration"),
    ("duration=f>5parsecs", 11, "is not a duration"),
    ("duration=f>" + "9" * 400 + "s", 11, "more than a year"),
    ("signal=SIGNONE", 7, "is no signal"),
    ("signal=KILL", 7, "is no signal"),
    ("signal=SIGSTOP", 7, "is no signal"),
    ("signal=_IGN", 7, "is no signal"),
    ("time=+5", 6, "is not a duration"),
    ("time=+5s-6s", 9, "both ends"),
    ("time=+5s-+x", 10, "is not a duration"),
    ("time=+5s-+5s", 9, "ends before it begins"),
    ("time=10:30", 10, "write from-to"),
    ("time=10:30-", 11, "is no time of day"),
    ("time=24:00-10:00", 5, "is no time of day"),
    ("time=10:00-10:60", 11, "is no time of day"),
    ("time=10:00:60-11:00", 5, "is no time of day"),
    ("python=", 7, "write what follows python="),
    ("python=depth >", 14, "not an expression"),
    ("python=  depth > )", 17, "not an expression"),
    ("python=deep > 3", 7, "deep is not known"),
    ("python=depth > 3 and nom == 'x'", 21, "nom is not known"),
    ("python='äö' == nom", 15, "nom is not known"),
    ("python=name.__class__", 12, "__class__ cannot be used"),
    ("python=name.format(1)", 12, "format cannot be used"),
    ("python=[x.__class__ for x in (1,)]", 10, "__class__ cannot be used"),
    ("python=(lambda: 1)()", 8, "Lambda cannot stand"),
    ("python=open('x')", 7, "open is not known"),
    ("python=__import__('os')", 7, "__import__ cannot be used"),
    ("python=9**9**9", 7, "Pow cannot stand"),
    ("python=(depth := 3)", 8, "NamedExpr cannot stand"),
    ("python=f'{name}'", 7, "JoinedStr cannot stand"),
    ("python=any(1 for depth in (1,))", 17, "depth cannot be used"),
    ("symbol=a\nb", 8, "cannot stand in a trigger"),
    ("symbol=a\udcff", 8, "cannot stand in a trigger"),
]


@pytest.mark.parametrize(("said", "at", "why"), WRONG, ids=[ascii(one[0][:40]) for one in WRONG])
def test_a_wrong_one_is_shown_where_it_is_wrong(said, at, why):
    with pytest.raises(UsageError) as caught:
        parse(said)
    first, *shown, caret = str(caught.value).split("\n")
    assert first.startswith("trigger: ") and why in first
    assert len(shown) == 1 and said.startswith(shown[0][2:]) and caret.endswith("^")
    if "Pow" not in why:  # operators stand nowhere themselves
        assert caret.index("^") == 2 + at, str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*(one[0] for one in RIGHT), *(one[0] for one in WRONG), "symbol~=(a|b)+", "python=any(c in 'ab' for c in name)"]),
    st.data(),
)
def test_no_text_raises_anything_else(start, data):
    """A trigger with letters changed, at random places, is one or is refused."""
    letters = list(start)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(letters)))
        letters[at : at + data.draw(st.integers(0, 2))] = data.draw(st.text("()[]{}=>,:+-*~. \\'\"0129smx²٣ä#_\t\0\udcff", max_size=3) | st.text(max_size=3))
    said = "".join(letters)
    try:
        found = parse(said)
    except UsageError as error:
        shown, caret = str(error).split("\n")[-2:]
        assert 2 <= caret.index("^") <= max(len(shown), len(said) + 2)
    else:
        assert found.said == said and found.wants("m", "f") in (True, False)


@given(st.text())
def test_no_rubbish_raises_anything_else(said):
    for head in ("", "python=", "symbol~=", "time=", "duration=f>"):
        try:
            parse(head + said)
        except UsageError:
            pass


def test_which_functions_are_wanted():
    by_name = parse("symbol=run,app.db::put,web.view")
    wanted = {("any", "run"), ("app.db", "put"), ("web", "view")}
    for module in ("any", "app.db", "web", "db"):
        for name in ("run", "put", "view", "running"):
            assert by_name.wants(module, name) == (name == "run" or (module, name) in wanted)
    by_pattern = parse(r"symbol~=^app\.\w+::(get|put)_")
    assert by_pattern.wants("app.db", "put_row") and not by_pattern.wants("app.db", "output_row") and not by_pattern.wants("lapp.db", "put_row")
    assert not parse("crash").wants("app", "run")
    assert [one.kind for one in parse_all(["crash", "time=+1s"])] == ["crash", "time"]


def holds(text, **fields):
    of = {"kind": "call", "name": "run", "module": "app", "thread": 7, "depth": 2, "time_ns": 10, "duration_ns": 0, **fields}
    return Expression(text).holds(**of)


def test_expressions_see_the_event():
    for field in FIELDS:
        assert holds(f"{field} == 'it'", **{field: "it"}) and not holds(f"{field} == 'it'", **{field: "other"})
    assert holds("kind == 'return' and duration_ns > 5e6", kind="return", duration_ns=6_000_000)
    assert not holds("kind == 'return' and duration_ns > 5e6", kind="return", duration_ns=4_000_000)
    assert holds("any(name.startswith(p) for p in ('ru', 'x'))") and holds("[x for x in (1, depth) if x == 2][0] == 2")
    assert holds("'app' in module and min(depth, 9) == 2 and not name.upper().endswith('X')") and holds("depth % 2 == 0 if thread else False")
    with pytest.raises(ZeroDivisionError):
        holds("1 / (depth - 2)")
    for text in ("().__class__", "name.__len__()", "print(1)", "exec('1')", "depth << 9", "lambda: 0", "{**x}", "await name", "(yield)", "name.x"):
        with pytest.raises(NotAnExpression):
            Expression(text)


# ---------------------------------------------------------------- times of day
@pytest.fixture(params=["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC"])
def zone(request):
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


MINUTE = 60
# Days on which clocks are set, somewhere; the last one is like any other.
DAYS = [(2023, 3, 26), (2023, 10, 29), (2023, 3, 12), (2023, 11, 5), (2023, 10, 1), (2023, 4, 2), (2018, 11, 4), (2018, 2, 17), (2023, 6, 15)]
CLOCKS = [("0:00", "0:30"), ("1:30", "2:10"), ("2:15", "2:45"), ("2:30", "3:15"), ("1:00", "4:00"), ("23:30", "0:15"), ("22:00", "22:00"), ("12:00", "11:59")]


def slow_window(start, end, now, clock):
    """Minute by minute. clock: of each minute, from two days before now, (Unix seconds, naive local time)."""
    today = datetime.datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(-1, 4):
        begins = today + datetime.timedelta(days=day, seconds=start)
        ends = today + datetime.timedelta(days=day + (end <= start), seconds=end)
        opens = min(at for at, shown in clock if shown >= begins)
        closes = max(at for at, shown in clock if shown < ends) + MINUTE
        if closes > now and closes > opens:
            return opens, closes
    return None


def test_the_window_that_is_open_or_next(zone):
    for day in DAYS:
        noon = int(datetime.datetime(*day, 12).timestamp())
        clock = [(at, datetime.datetime.fromtimestamp(at)) for at in range(noon - 3 * 86400, noon + 5 * 86400, MINUTE)]
        for said in CLOCKS:
            found = parse(f"time={said[0]}-{said[1]}").clock
            for now in range(noon - 13 * 3600, noon + 15 * 3600, 13 * 1800):
                assert next_clock_window(found, now) == slow_window(*found, now, clock), (day, said, time.ctime(now))
