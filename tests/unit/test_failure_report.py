"""The failure report, line by line, of small traces; and that it stays short and right for any tree."""

import shutil

import call_trees as ct
import pytest
import tracefiles as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_asked_values import EVENT, GET, ITEM, RATE, SPAN, opened, raising
from test_windows import gapped
from tracefiles import CALL, EXCEPTION, INSTANT, RESUME, RETURN, YIELD

import atf
from atf.failure import report

pytestmark = pytest.mark.at_rest


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("reports")


def told(trace, start_ns=None, end_ns=None, tail=40):
    return report(trace.window(start_ns, end_ns), tail=tail).split("\n")


def test_the_way_of_an_exception_is_marked(place):
    events, details = raising(EXCEPTION, EXCEPTION, EXCEPTION)
    details |= {0: (16, {"args": {"id": 7}}), 2: (16, {"args": {"amount": {"~": "shop.Money"}}})}
    with opened(place, events, details, level="args") as trace:
        assert told(trace) == [
            "3 calls:",
            "> shop.views.item(id=7)  50 ns  [raised KeyError: k]",
            ">   shop.db.get  30 ns  [raised KeyError: k]",
            ">     shop.tax.rate(amount=<shop.Money>)  10 ns  [raised KeyError: k]",
            "threads:",
            "  main (100): nothing recorded in progress; last call shop.tax.rate, 30 ns before the end",
        ]


def test_of_a_long_message_the_first_line_is_shown(place):
    """That of an assertion is the whole report of it."""
    events, _ = raising(EXCEPTION, RETURN, RETURN)
    with opened(place, events, {3: (18, {"type": "builtins.AssertionError", "message": "assert 4 == 3\n  because"})}) as trace:
        lines = told(trace)
        assert lines[3].endswith("[raised AssertionError: assert 4 == 3…]")
        assert "  AssertionError: assert 4 == 3…  raised in shop.tax.rate, caught in shop.db.get" in lines


def test_what_was_swallowed_is_told_once_each(place):
    one, details = [], {}
    for n in range(3):
        at = 1000 * n
        one += [(at + 100, GET, CALL, 1), (at + 110, RATE, CALL, 2), (at + 120, RATE, EXCEPTION, 2), (at + 130, GET, RETURN, 1)]
        details[4 * n + 2] = (18, {"type": "builtins.KeyError", "message": "a" if n else "b"})
    one += [(4100, GET, CALL, 1), (4110, RATE, CALL, 2), (4120, RATE, EXCEPTION, 2), (4130, GET, RETURN, 1)]
    details[14] = (18, {"type": "builtins.StopIteration", "message": ""})  # control flow is no news
    with opened(place, one, details) as trace:
        lines = told(trace)
        at = lines.index("exceptions swallowed before the end:")
        assert lines[at + 1 : at + 4] == [
            "  KeyError: a  raised in shop.tax.rate, caught in shop.db.get  ×2",
            "  KeyError: b  raised in shop.tax.rate, caught in shop.db.get",
            "threads:",
        ]


def test_open_spans_events_and_threads_at_the_end_of_the_window(place):
    events = [
        (100, ITEM, CALL, 1), (200, SPAN, CALL, 2), (300, GET, CALL, 3), (400, EVENT, INSTANT, 3), (500, RATE, CALL, 4), (600, RATE, RETURN, 4),
        (700, GET, RETURN, 3), (800, SPAN, RETURN, 2), (900, ITEM, RETURN, 1),
    ]  # fmt: skip
    said = {1: (19, {"name": "render", "attributes": {"page": 2}}), 3: (19, {"name": "retry", "attributes": {"n": 1}})}
    with opened(place, events, said) as trace:
        assert told(trace, 150, 550)[1:] == [
            "  shop.views.item ›",
            "    render(page=2)  600 ns",
            "      shop.db.get  400 ns",
            "        shop.tax.rate  100 ns",
            "open spans:",
            "  render(page=2)  for 350 ns  in main",
            "last events:",
            "  retry(n=1)  150 ns before the end  in main",
            "threads:",
            "  main (100): in shop.views.item › render › shop.db.get › shop.tax.rate  for 50 ns",
        ]
        assert "open spans:" not in told(trace)


def test_suspended_coroutines_are_told_by_their_way(place):
    events = [
        (100, ITEM, CALL, 1), (110, SPAN, CALL, 2), (120, GET, CALL, 3), (130, GET, YIELD, 3), (140, ITEM, YIELD, 1),
        (150, ITEM, CALL, 1), (160, GET, CALL, 2), (170, GET, YIELD, 2), (180, ITEM, YIELD, 1),
        (190, RATE, CALL, 1), (200, RATE, RETURN, 1),
    ]  # fmt: skip
    with opened(place, events) as trace:
        lines = told(trace)
        assert lines[lines.index("threads:") + 1 :] == [
            "  main (100): nothing recorded in progress; last call shop.tax.rate, 10 ns before the end",
            "    suspended: shop.views.item › shop.db.get  for 70 ns",
            "    suspended: shop.views.item › shop.db.get  for 30 ns",
        ]
        assert lines[2:4] == ["    render  [around an await]", "      shop.db.get  10 ns  [suspended]"]
        assert "  render  for 90 ns  in main" in lines  # a span around an await is open as long as its coroutine waits


def test_a_span_around_an_await_that_is_over_is_not_open(place):
    events = [
        (100, ITEM, CALL, 1), (110, SPAN, CALL, 2), (120, ITEM, YIELD, 1), (130, ITEM, RESUME, 1), (140, SPAN, RETURN, 2), (150, ITEM, YIELD, 1),
        (160, RATE, CALL, 1), (170, RATE, RETURN, 1),
    ]  # fmt: skip
    with opened(place, events) as trace:
        assert "open spans:" not in told(trace) and "    suspended: shop.views.item  for 20 ns" in told(trace)


def test_a_loop_is_one_line_and_counts_once(place):
    events = [(100, ITEM, CALL, 1)]
    for n in range(50):
        events += [(200 + 10 * n, RATE, CALL, 2), (205 + 10 * n, RATE, RETURN, 2)]
    events += [(800, GET, CALL, 2), (810, GET, RETURN, 2), (900, ITEM, RETURN, 1)]
    with opened(place, events) as trace:
        assert told(trace, tail=2)[:4] == ["last 51 of 52 calls:", "  shop.views.item", "    shop.tax.rate ×50  250 ns", "    shop.db.get  10 ns"]
        assert told(trace, tail=1)[:2] == ["last 1 of 52 calls:", "  shop.views.item ›"]
        assert told(trace, tail=0)[0] == "threads:"


def test_depth_is_compressed(place):
    events = [(100 + n, RATE, CALL, n + 1) for n in range(500)] + [(1000 + n, RATE, RETURN, 500 - n) for n in range(500)]
    with opened(place, events) as trace:
        lines = told(trace, tail=40)
        assert lines[1] == "  shop.tax.rate › … 457 more › shop.tax.rate › shop.tax.rate ›" and max(map(len, lines)) < 120
        assert lines[40].strip().startswith("[23 deeper] shop.tax.rate") or "deeper] shop.tax.rate" in lines[40]
        assert "› … 496 more ›" in lines[-1] or "nothing recorded" in lines[-1]


def test_what_is_missing_is_said(place):
    shutil.rmtree(place / "gap", ignore_errors=True)
    with atf.open(ct.write(place / "gap", [gapped(2)])) as trace:
        assert told(trace)[-1].startswith("incomplete: 5 events of thread 'worker-0' were lost")
        assert not told(trace, 0, 105)[-1].startswith("incomplete")


def test_names_of_the_program_cannot_break_lines(place):
    with opened(place, [(100, EVENT, INSTANT)], {0: (19, {"name": "retry", "attributes": {"a": "x\ny\x1b[31m"}})}) as trace:
        assert not any("\x1b" in line for line in told(trace)) and len(told(trace)) == 3


def test_a_window_of_nothing(place):
    with opened(place, [(100, RESUME, 5)]) as trace:
        assert told(trace)[0] == "no calls were recorded"


@settings(max_examples=100, deadline=None)
@given(ct.programs, st.integers(0, 6), st.data())
def test_any_tree(place, program, tail, data):
    events, nodes = ct.play(program)
    shutil.rmtree(place / "any", ignore_errors=True)
    end = data.draw(st.sampled_from([None, *(n.start + 1 for n in nodes)]))
    with atf.open(ct.write(place / "any", events)) as trace:
        text = report(trace.window(None, end), tail=tail)
        inside = [n for n in nodes if end is None or n.start < end]
        for n in inside[-tail:] if tail else []:
            assert n.name in text
        assert len(text.split("\n")) < 60
        assert tf and text == text.rstrip()
