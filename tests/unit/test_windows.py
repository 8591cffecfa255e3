"""Counts, nesting, order and absence in windows: what walking the call trees says; and when there is no answer."""

import shutil

import call_trees as ct
import pytest
import tracefiles as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tracefiles import CALL, GAP, RESUME, RETURN, YIELD

import atf
from atf.errors import TraceIncomplete, UsageError

pytestmark = pytest.mark.at_rest
PATTERNS = st.sampled_from([*ct.NAMES, "shop.*", "shop.db.*", "rate", "*.ge?", "nothing.*", "[!s]*.write"])
QUICK = settings(max_examples=70, deadline=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("windows")


def opened(place, events, **more):
    shutil.rmtree(place / "session", ignore_errors=True)
    return atf.open(ct.write(place / "session", events, **more))


def holds(ask):
    try:
        ask()
    except AssertionError as why:
        assert str(why)
        return False
    return True


def bounds(data, nodes):
    times = [0, 1 << 63, *(n.start + d for n in nodes for d in (0, 1))]
    start, end = sorted(data.draw(st.tuples(st.sampled_from(times), st.sampled_from(times))))
    return start, end


@QUICK
@given(ct.programs, PATTERNS, st.none() | PATTERNS, PATTERNS, st.data())
def test_counts_are_those_of_the_tree(place, program, pattern, under, parent, data):
    events, nodes = ct.play(program)
    window = bounds(data, nodes)
    with opened(place, events) as trace:
        w = trace.window(*window)
        expected = ct.calls(nodes, pattern, under, window)
        found = w.calls(pattern, under=under)
        assert found == len(expected) and len(found) == int(found) == found.count == len(expected)
        assert [(c.start_ns, c.thread.number, c.name) for c in found] == [(n.start, n.thread, n.name) for n in expected]
        assert bool(found) == bool(expected) and (found <= 2) == (len(expected) <= 2) and (2 * found > 3) == (2 * len(expected) > 3)
        assert repr(found).startswith(f"<{len(expected)} call")
        known = any(ct.fits(n, parent) for n in nodes)
        if expected and not known:
            with pytest.raises(UsageError, match="no such function"):
                found.max_per(parent)
        else:
            assert found.max_per(parent) == ct.max_per(expected, parent)
            assert repr(found.max_per(parent))


FEW = ct.NAMES[:2]


@settings(max_examples=120, deadline=None)
@given(st.lists(ct.forests(7, FEW), min_size=1, max_size=2), st.lists(st.sampled_from([*FEW, "shop.*"]), min_size=1, max_size=3), st.data())
def test_order_is_that_of_the_tree(place, program, patterns, data):
    events, nodes = ct.play(program)
    window = bounds(data, nodes) if data.draw(st.booleans()) else (0, 1 << 63)
    inside = [n for n in nodes if window[0] <= n.start < window[1]]
    with opened(place, events) as trace:
        w = trace.window(*window)
        assert holds(lambda: w.order(*patterns)) == ct.in_order(inside, patterns)
        assert holds(lambda: w.never(*patterns)) == (not any(ct.fits(n, p) for n in inside for p in patterns))
        if ct.in_order(inside, patterns):
            assert holds(lambda: w.order(*patterns).strict()) == ct.strictly(inside, patterns)
            assert holds(lambda: w.order(*patterns).immediately()) == ct.immediately(inside, patterns, nodes)


@QUICK
@given(ct.programs, st.data())
def test_windows_side_by_side_share_no_call(place, program, data):
    events, nodes = ct.play(program)
    start, end = bounds(data, nodes)
    with opened(place, events) as trace:
        parts = [trace.window(None, start), trace.window(start, end), trace.window(end, None)]
        assert sum(int(w.calls("*")) for w in parts) == len(nodes) == trace.calls("*")


RATE, GET, ITEM = (ct.IDS[name] for name in ("shop.tax.rate", "shop.db.get", "shop.views.item"))


def test_nothing_is_one_call_that_only_went_on(place):
    """What was in progress when recording began, and what was resumed without having begun, was not called."""
    events = [
        tf.event(100, ITEM, CALL, 1),  # entered
        tf.event(110, RATE, CALL, 2),
        tf.event(120, RATE, RETURN, 2),
        tf.event(130, GET, RESUME, 2),
        tf.event(140, RATE, CALL, 3),
        tf.event(150, RATE, RETURN, 3),
        tf.event(160, GET, YIELD, 2),
        tf.event(200, ITEM, RETURN, 1),
    ]
    place = ct.write(place / "entered", [events], of_threads={0: {"entered": 1}})
    with atf.open(place) as trace:
        w = trace.window()
        assert w.calls("shop.views.item") == 0 and w.calls("shop.db.get") == 0
        assert w.calls("rate") == 2 and w.calls("rate", under="shop.views.item") == 2 and w.calls("rate", under="shop.db.get") == 1


def test_at_level_calls_depth_says_who_called_whom(place):
    """There are no returns: the matcher of spans takes every call for one inside the call before."""
    events = [tf.event(100 + 10 * at, id, CALL, depth) for at, (id, depth) in enumerate([(ITEM, 1), (GET, 2), (RATE, 3), (RATE, 2), (ITEM, 1), (RATE, 2)])]
    with opened(place, [events], level="calls") as trace:
        w = trace.window()
        assert w.calls("rate") == 3 and w.calls("rate", under="shop.db.get") == 1
        assert w.calls("rate").max_per("shop.views.item") == 2
        with pytest.raises(TraceIncomplete, match="level='returns'"):
            assert w.span("rate").total
        with pytest.raises(TraceIncomplete, match="no exceptions are recorded"):
            assert w.raised().count == 0


def test_at_level_calls_spans_are_where_their_calls_are(place):
    """As from Python 3.12 on: a span has no depth to rely on, and what it is below is what makes the first call in it."""
    rows = [(GET, CALL, 3), (ITEM, CALL, 2), (GET, CALL, 3), (7, CALL, 1), (RATE, CALL, 3), (GET, CALL, 4), (7, RETURN, 1), (GET, CALL, 3)]
    with opened(place, [[tf.event(100 + 10 * at, *row) for at, row in enumerate(rows)]], level="calls", python="3.12.1") as trace:
        w = trace.window()
        parents = [int(w.rows.parent[row]) for row in range(7)]
        assert parents == [-1, -1, 1, 1, 3, 4, 1]
    with opened(place, [[tf.event(100, RATE, CALL)]], level="calls", python="3.13.0", filters={"exclude": ["x"]}) as trace:
        assert trace.calls("rate") == 1
        with pytest.raises(TraceIncomplete, match="does not tell who called whom"):
            assert trace.calls("rate", under="rate") == 0


def test_immediately_is_the_first_call_in_it_or_the_first_after_it(place):
    program = [[("shop.views.item", [("shop.db.get", [], False), ("shop.db.put", [], False)], False), ("shop.tax.rate", [], False)]]
    with opened(place, ct.play(program)[0]) as trace:
        for good in (("item", "get"), ("item", "rate"), ("get", "put", "rate"), ("item", "get", "put", "rate")):
            trace.order(*good).immediately()
        for bad in (("item", "put"), ("get", "rate")):
            with pytest.raises(AssertionError, match="immediately"):
                trace.order(*bad).immediately()


def test_immediately_stays_in_the_window(place):
    names = ["shop.db.get", "log.write", "shop.db.put", "shop.db.get", "shop.db.put"]
    events, nodes = ct.play([[(name, [], False) for name in names]])
    with opened(place, events) as trace:
        trace.order("get", "put").immediately()
        with pytest.raises(AssertionError, match="immediately"):
            trace.window(None, nodes[-1].start).order("get", "put").immediately()


def gapped(at, lost=5, reason=1):
    """Two calls of rate with a gap before, between or behind them."""
    calls = [tf.event(100, RATE, CALL), tf.event(110, RATE, RETURN), tf.event(200, RATE, CALL), tf.event(210, RATE, RETURN)]
    time = {0: 90, 2: 150, 4: 260}[at]
    return [*calls[:at], tf.event(time, lost, GAP, reason), *calls[at:]]


@pytest.mark.parametrize(
    ("at", "window", "incomplete"),
    [
        (2, (0, None), True),
        (2, (0, 105), False),
        (2, (0, 111), True),  # what was lost lies somewhere between 110 and 200
        (2, (120, 130), True),
        (2, (201, None), False),
        (2, (200, 205), True),  # at the same moment
        (0, (0, 50), True),  # when that began nobody knows
        (0, (101, None), False),
        (4, (0, 210), False),
        (4, (220, 230), True),
        (4, (300, None), False),
    ],
)
def test_a_gap_makes_the_windows_incomplete_that_it_may_touch(place, at, window, incomplete):
    with opened(place, [gapped(at)]) as trace:
        w = trace.window(*window)
        assert (w.lost is not None) == incomplete
        if incomplete:
            with pytest.raises(TraceIncomplete, match="5 events of thread 'worker-0' were lost"):
                w.never("nothing.*")


def test_what_a_gap_cannot_change_is_answered(place):
    with opened(place, [gapped(2)]) as trace:
        w = trace.window()
        found = w.calls("rate")
        assert (found >= 2) is True and (found > 1) is True and (found == 1) is False and (found != 1) is True
        assert (found < 2) is False and (found <= 1) is False and bool(found) and len(found.seen) == 2
        for ask in (
            lambda: found == 2, lambda: found == 3, lambda: found != 2, lambda: found < 3, lambda: found <= 2, lambda: found > 2, lambda: found >= 3,
            lambda: len(found), lambda: int(found), lambda: list(found), lambda: found[0], lambda: found + 1, lambda: found.count,
            lambda: bool(w.calls("shop.db.get")), lambda: found.max_per("rate") == 0, lambda: w.calls("rate", under="shop.views.item") >= 0,
            lambda: w.order("rate", "rate", "rate"), lambda: w.order("rate", "rate").strict(), lambda: w.order("rate", "rate").immediately(),
            lambda: w.call("shop.db.get"), lambda: w.event("x") == 0, lambda: w.raised() == 0, lambda: w.span("rate").total, lambda: w.same_shape_as("x"),
        ):  # fmt: skip
            with pytest.raises(TraceIncomplete):
                ask()
        w.order("rate", "rate")
        with pytest.raises(AssertionError, match="strictly"):
            w.order("rate").strict()
        with pytest.raises(AssertionError, match="there are 2 calls"):
            w.never("rate")


@pytest.mark.parametrize("reason", [5, 6])
def test_what_a_flight_recorder_let_go_is_missing_too(place, reason):
    with opened(place, [gapped(2, reason=reason)]) as trace, pytest.raises(TraceIncomplete, match="kept|earlier parts"):
        trace.never("nothing.*")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"status": "recording"}, "still being recorded|recorder of process"),
        ({"lost": {"exhausted": 7}}, "7 events of process 50 were lost outside"),
        ({"of_threads": {0: {"events": 9}}}, "was cut"),
    ],
)
def test_what_the_manifest_knows_of_losses(place, more, said):
    with opened(place, [[tf.event(100, RATE, CALL), tf.event(110, RATE, RETURN)]], **more) as trace, pytest.raises(TraceIncomplete, match=said):
        assert trace.calls("rate") == 1


def test_one_call(place):
    with opened(place, [[tf.event(100, RATE, CALL), tf.event(110, RATE, RETURN)]]) as trace:
        call = trace.call("rate")
        assert call.name == "shop.tax.rate" and call == trace.spans()[0]
        with pytest.raises(TraceIncomplete, match="level was 'returns'"):
            assert call.args
        with pytest.raises(AssertionError, match=r"0 calls of 'rat'[^$]*nearest: shop.tax.rate"):
            trace.call("rat")


def test_a_name_that_nothing_is_like_is_told(place):
    with opened(place, [[tf.event(100, RATE, CALL), tf.event(110, RATE, RETURN)]]) as trace:
        assert "nearest: shop.tax.rate" in repr(trace.calls("shop.tax.rates"))
        assert "or like it (1 function was recorded)" in repr(trace.calls("zzz"))
        with pytest.raises(AssertionError, match="nearest: shop.tax.rate"):
            trace.order("shop.tax.rat")


@pytest.mark.parametrize("ask", [lambda w: w.order(), lambda w: w.never(), lambda w: w.calls(3), lambda w: w.raised(3), lambda w: w.span("rate").percentile(101)])
def test_what_cannot_be_asked(place, ask):
    with opened(place, [[tf.event(100, RATE, CALL), tf.event(110, RATE, RETURN)]]) as trace, pytest.raises(UsageError):
        ask(trace.window())


def test_a_window_ends_behind_its_begin(place):
    with opened(place, [[]]) as trace, pytest.raises(UsageError, match="ends before it begins"):
        trace.window(5, 4)


def test_a_window_of_nothing(place):
    with opened(place, [[]]) as trace:
        w = trace.window()
        w.never("*")
        assert w.calls("*") == 0 and "no calls were recorded" in repr(w.calls("*")) + "".join(w.around())
