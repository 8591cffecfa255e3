"""Durations, exceptions, events and values of windows: small traces made byte by byte, and percentiles by sorting."""

import math
import shutil

import call_trees as ct
import msgspec
import pytest
import tracefiles as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tracefiles import CALL, EXCEPTION, INSTANT, NONE, RESUME, RETURN, YIELD

import atf
from atf import ms, us
from atf.assertrepr import pytest_assertrepr_compare
from atf.durations import Nanoseconds
from atf.errors import TraceIncomplete, UsageError

pytestmark = pytest.mark.at_rest
QUICK = settings(max_examples=80, deadline=None)
RATE, GET, ITEM, SPAN, EVENT = ct.IDS["shop.tax.rate"], ct.IDS["shop.db.get"], ct.IDS["shop.views.item"], 7, 8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("values")


def opened(place, events, details=(), **more):
    """One thread; details: {position of an event: (type, value)}."""
    shutil.rmtree(place / "s", ignore_errors=True)
    symbols = {id: (name.rpartition(".")[2], "", 1) for name, id in ct.IDS.items()} | {SPAN: ("render", "", 0), EVENT: ("retry", "", 0)}
    modules = {id >> 32: name.rpartition(".")[0] for name, id in ct.IDS.items()}
    seqs = {at: number for number, at in enumerate(sorted(dict(details)))}
    records = [tf.detail(at, type, msgspec.msgpack.encode(value)) for at, (type, value) in sorted(dict(details).items())]
    made = [tf.event(*event, **({"detail_seq": seqs[at]} if at in seqs else {"detail_seq": NONE})) for at, event in enumerate(events)]
    said = {0: {"tid": 100, "name": "main", **more.pop("thread", {})}}
    tf.write_process(place / "s", 50, {0: (100, made, records)}, tf.manifest(said, symbols, modules, pid=50, **{"level": "returns", **more}))
    return atf.open(place / "s")


@QUICK
@given(ct.programs, st.sampled_from([*ct.NAMES, "shop.*", "*"]), st.integers(1, 99))
def test_times_are_those_of_the_tree(place, program, pattern, percent):
    events, nodes = ct.play(program)
    shutil.rmtree(place / "tree", ignore_errors=True)
    with atf.open(ct.write(place / "tree", events)) as trace:
        w, found = trace.window(), ct.calls(nodes, pattern)
        timed = w.span(pattern)
        assert timed == len(found)
        if not found:
            with pytest.raises(AssertionError, match="nothing to time"):
                assert timed.total
            return
        own = [n.end - n.start for n in found]
        selves = [n.end - n.start - sum(below.end - below.start for below in n.calls) for n in found]
        assert timed.total == sum(n.end - n.start for n in found if not any(above in found for above in n.callers()))
        assert timed.self == timed.self_total == sum(selves) and timed.wall == sum(own)
        assert timed.min == min(own) and timed.max == max(own) and timed.mean == round(sum(own) / len(own))
        rank = math.ceil(percent * len(own) / 100) - 1
        assert getattr(timed, f"p{percent}") == sorted(own)[rank] and getattr(timed, f"self_p{percent}") == sorted(selves)[rank]
        assert timed.percentile(percent, of="wall") == sorted(own)[rank]


def test_limits_are_numbers_of_nanoseconds(monkeypatch):
    monkeypatch.delenv("ATF_TIME_FACTOR", raising=False)
    assert ms(50) == 50_000_000 and us(1.5) == 1500 and repr(ms(50)) == "50.0 ms" == str(ms(50))
    assert 2 * us(3) == us(6) and us(3) * 1.5 == 4500 and repr(us(3) + 1) == "3.00 µs" and us(3) - us(1) == 2000
    assert isinstance(1 + us(1), Nanoseconds) and us(3) < 3001 and us(1) / us(2) == 0.5
    monkeypatch.setenv("ATF_TIME_FACTOR", "3")
    assert ms(50) == 150_000_000
    for bad in ("fast", "0", "-1", "nan"):
        monkeypatch.setenv("ATF_TIME_FACTOR", bad)
        with pytest.raises(UsageError, match="ATF_TIME_FACTOR"):
            ms(1)


def test_a_span_of_ones_own_comes_before_a_function(place):
    symbols = [(100, SPAN, CALL), (110, RATE, CALL, 2), (150, RATE, RETURN, 2), (200, SPAN, RETURN)]
    with opened(place, symbols, {0: (19, {"name": "render", "attributes": {"n": 1}})}) as trace:
        assert trace.span("render").total == 100 and trace.span("render").self == 60 and trace.span("rate").total == 40
        assert trace.calls("render") == 1 and trace.calls("*") == 1  # of spans only where no function has the name
        assert trace.span("*") == 1 and trace.span("*").total == 100
        assert trace.span("rate", under="render") == 1 and trace.span("render", under="rate") == 0
        assert next(iter(trace.span("render"))).attributes == {"n": 1}
        with pytest.raises(AttributeError, match="p50"):
            assert trace.span("render").p0
        with pytest.raises(AttributeError):
            assert trace.span("render").medium


@pytest.mark.parametrize(
    "events",
    [
        [(100, RATE, CALL), (110, GET, CALL, 2), (120, GET, RETURN, 2)],  # still runs
        [(100, RATE, CALL), (110, RATE, YIELD)],  # suspended for good
        [(90, GET, CALL), (100, SPAN, CALL, 2), (110, GET, YIELD), (120, 1, INSTANT)],  # a span around an await
    ],
)
def test_an_end_that_is_not_known_is_no_time(place, events):
    with opened(place, events) as trace:
        name = "render" if any(event[1] == SPAN for event in events) else "rate"
        assert trace.span(name) == 1
        with pytest.raises(TraceIncomplete, match="no known end"):
            assert trace.span(name).max


def test_what_a_span_around_an_await_held_is_not_guessed(place):
    """The coroutine went on in its span, which its suspension had taken off the stack."""
    events = [(100, GET, CALL, 1), (110, SPAN, CALL, 2), (120, GET, YIELD, 1), (130, GET, RESUME, 1), (140, RATE, CALL, 3), (150, RATE, RETURN, 3)]
    with opened(place, [*events, (160, SPAN, RETURN, 2), (170, GET, RETURN, 1)]) as trace:
        assert trace.calls("rate", under="get") == 1 and trace.calls("rate").max_per("get") == 1
        for ask in (lambda: trace.calls("rate", under="render") == 1, lambda: trace.calls("rate").max_per("render") == 1, lambda: trace.span("rate", under="render") == 1):
            with pytest.raises(TraceIncomplete, match="was suspended"):
                ask()


def raising(*ends, type="builtins.KeyError"):
    """item calls get, which calls rate, which raises; ends: of rate, get and item."""
    events = [(100, ITEM, CALL, 1), (110, GET, CALL, 2), (120, RATE, CALL, 3), (130, RATE, ends[0], 3), (140, GET, ends[1], 2), (150, ITEM, ends[2], 1)]
    details = {at: (18, {"type": type, "message": "k"}) for at in (3, 4, 5) if events[at][2] == EXCEPTION}
    return events, details


@pytest.mark.parametrize(
    ("ends", "swallowed", "escaped"),
    [
        ((RETURN, RETURN, RETURN), 0, 0), ((EXCEPTION, RETURN, RETURN), 1, 0), ((EXCEPTION, EXCEPTION, RETURN), 1, 0),
        ((EXCEPTION, EXCEPTION, EXCEPTION), 0, 1), ((RETURN, EXCEPTION, RETURN), 1, 0),
    ],
)  # fmt: skip
def test_exceptions_are_swallowed_or_escape(place, ends, swallowed, escaped):
    with opened(place, *raising(*ends)) as trace:
        found = trace.raised(KeyError)
        assert found == swallowed + escaped and found.swallowed == swallowed and found.escaped == escaped
        assert [one.type for one in found] == ["KeyError"] * len(found)
        assert trace.raised(LookupError) == found and trace.raised(ValueError) == 0 and trace.raised() == len(found)
        assert trace.raised("Key*") == len(found) and trace.raised("LookupError") == 0


def test_an_exception_after_one_that_was_caught_is_another(place):
    """get calls rate twice; both raise, and the second goes on through get."""
    events = [
        (100, GET, CALL, 1), (110, RATE, CALL, 2), (120, RATE, EXCEPTION, 2), (130, RATE, CALL, 2), (140, RATE, EXCEPTION, 2), (150, GET, EXCEPTION, 1),
    ]  # fmt: skip
    said = {at: (18, {"type": "builtins.KeyError", "message": "k"}) for at in (2, 4, 5)}
    with opened(place, events, said) as trace:
        assert trace.raised() == 2 and trace.raised().swallowed == 1 and trace.raised().escaped == 1


def test_what_began_before_the_window_is_outside_of_it(place):
    with opened(place, *raising(EXCEPTION, EXCEPTION, RETURN)) as trace:
        assert trace.window(105).raised().escaped == 1  # item catches it, and began before
        assert trace.window(105).raised().swallowed == 0
        assert trace.window(131).raised() == 0  # raised before


class Outer:
    class Refused(ValueError):
        pass


@pytest.mark.parametrize("said", [f"{__name__}.Refused", f"{__name__}.Outer.Refused"])
def test_nested_classes_have_two_names(place, said):
    with opened(place, *raising(EXCEPTION, RETURN, RETURN, type=said)) as trace:
        assert trace.raised(Outer.Refused) == 1 and trace.raised(ValueError) == 1 and trace.raised(KeyError) == 0 and trace.raised("Refused") == 1


def test_a_type_that_was_not_recorded_is_not_guessed(place):
    events, _ = raising(EXCEPTION, RETURN, RETURN)
    with opened(place, events) as trace:
        assert trace.raised() == 1
        for wanted in (KeyError, "KeyError"):
            with pytest.raises(TraceIncomplete, match="type was not recorded"):
                assert trace.raised(wanted) == 0


def test_a_class_that_is_not_loaded_may_be_a_subclass(place):
    with opened(place, *raising(EXCEPTION, RETURN, RETURN, type="somewhere.Else")) as trace:
        assert trace.raised("Else") == 1 and trace.raised() == 1 and trace.raised(BaseException) == 1 and trace.raised("KeyError") == 0
        with pytest.raises(TraceIncomplete, match="whether somewhere.Else is one"):
            assert trace.raised(KeyError) == 0


RETRIES = [(100, EVENT, INSTANT), (110, EVENT, INSTANT), (120, EVENT, INSTANT), (130, RATE, CALL), (140, RATE, RETURN)]
SAID = {
    0: (19, {"name": "retry", "attributes": {"reason": "timeout", "n": 1}}),
    1: (19, {"name": "retry", "component": "mail", "attributes": {"reason": "refused", "codes": [1, 2]}}),
}


def test_events_and_decisions(place):
    with opened(place, RETRIES, SAID) as trace:
        w = trace.window()
        assert w.event("retry") == 3 and w.decision("retry", reason="timeout").count == 1 and w.event("re*", reason="timeout", n=1) == 1
        assert w.event("retry", reason="timeout", n=2) == 0 and w.event("retry", codes=(1, 2)) == 1 and w.event("retry", component="mail") == 1
        assert w.event("rate") == 0 and trace.window(105, 120).event("retry") == 1
        assert [event.timestamp_ns for event in w.event("retry")] == [100, 110, 120]
        assert "other: retry(reason='timeout', n=1)" in repr(w.event("retry", reason="never"))
        assert "there are retry" in repr(w.event("retri"))


def test_attributes_that_were_lost_are_not_guessed(place):
    with opened(place, RETRIES, SAID, thread={"details_lost": 2}) as trace:
        assert trace.event("retry") == 3 and trace.event("retry", reason="timeout") >= 1
        with pytest.raises(TraceIncomplete, match="2 details"):
            assert trace.event("retry", reason="timeout") == 1


@pytest.mark.parametrize("level", ["args", "c,args", "repr"])
def test_arguments(place, level):
    events = [(100, RATE, CALL), (110, RATE, RETURN), (120, RATE, CALL), (130, RATE, RETURN)]
    with opened(place, events, {0: (16, {"args": {"amount": 12}})}, level=level) as trace:
        first, second = trace.calls("rate")
        assert first.args["amount"] == 12
        with pytest.raises(TraceIncomplete, match="record was lost"):
            assert second.args


def test_what_pytest_shows(place):
    with opened(place, *raising(EXCEPTION, RETURN, RETURN)) as trace:
        found = trace.calls("rate")
        lines = pytest_assertrepr_compare(None, "==", found, 4)
        assert lines[0] == "1 call of 'rate' == 4" and lines[1:] == [
            "  shop.views.item › shop.db.get ›", ">   shop.tax.rate  10 ns  [raised KeyError: k]",
        ]  # fmt: skip
        assert pytest_assertrepr_compare(None, "<", 5, found)[0] == "1 call of 'rate' > 5"
        both = pytest_assertrepr_compare(None, "==", found, trace.calls("get", under="item"))
        assert both[0] == "1 call of 'rate' == 1 call of 'get' under 'item'" and "  and:" in both
        assert pytest_assertrepr_compare(None, "==", 1, 2) is None
        assert "KeyError: k  caught in shop.db.get" in "\n".join(pytest_assertrepr_compare(None, "==", trace.raised().swallowed, 0))
