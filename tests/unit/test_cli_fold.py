"""Folding of repeated calls, on traces made byte by byte, against a slow version on single spans."""

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atf.cli.fold import Folded
from atf.trace import open_trace

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, EXCEPTION, RETURN, event


def events_of(calls, events=None, depth=1):
    """Events of nested (name, raised, callees); every event is 10 ns after the one before it."""
    events = [] if events is None else events
    for name, raised, callees in calls:
        events.append(event(100 + 10 * len(events), ord(name), CALL, depth))
        events_of(callees, events, depth + 1)
        events.append(event(100 + 10 * len(events), ord(name), EXCEPTION if raised else RETURN, depth))
    return events


def opened(root, *threads):
    names = {ord(name): (name, "", 0) for name in "abcdefgh"}
    content = tf.manifest({n: {} for n in range(len(threads))}, names, {}, pid=50)
    tf.write_process(root / "session_20260101_120000", 50, {n: (200 + n, events_of(calls), ()) for n, calls in enumerate(threads)}, content)
    return open_trace(root)


def call(name, *callees, raised=False):
    return (name, raised, callees)


def shown(folded, numbers):
    found = []
    for number in numbers:
        node = folded.node(number)
        found.append((f"{node.span.function.name}×{node.count}" + "!" * (node.span.status == "exception"), shown(folded, folded.children(number))))
    return found


def tree_of(trace, **options):
    folded = Folded(trace.table(), **options)
    return shown(folded, folded.roots)


def test_neighbours_fold_and_order_is_kept(tmp_path):
    with opened(tmp_path, [call("a"), call("a"), call("b"), call("a")]) as trace:
        assert tree_of(trace) == [("a×2", []), ("b×1", []), ("a×1", [])]
        folded = Folded(trace.table())
        assert [folded.node(n).duration_ns for n in folded.roots] == [20, 10, 10]


def test_an_exception_does_not_fold_into_returns(tmp_path):
    with opened(tmp_path, [call("f", call("a"), call("a", raised=True), call("a"))]) as trace:
        assert tree_of(trace) == [("f×1", [("a×1", []), ("a×1!", []), ("a×1", [])])]


def test_below_repeated_calls_callees_fold_by_function(tmp_path):
    good, bad = (call("h", call("a"), call("b", raised=raised), call("c")) for raised in (False, True))
    with opened(tmp_path, [good, bad, good]) as trace:
        assert tree_of(trace) == [("h×3", [("a×3", []), ("b×2", []), ("c×3", []), ("b×1!", [])])]


def test_a_loop_folds_by_function(tmp_path):
    with opened(tmp_path, [call("a", *(call("b") if n % 2 else call("c") for n in range(50)))]) as trace:
        assert tree_of(trace) == [("a×1", [("c×25", []), ("b×25", [])])]


def test_threads_do_not_fold_into_each_other(tmp_path):
    with opened(tmp_path, [call("a"), call("b")] * 50, [call("a")] * 3) as trace:
        assert tree_of(trace) == [("a×50", []), ("b×50", []), ("a×3", [])]


def test_single_calls_of_threads_do_not_fold_into_each_other(tmp_path):
    with opened(tmp_path, [call("a")], [call("a")]) as trace:
        assert tree_of(trace) == [("a×1", []), ("a×1", [])]


def test_depth_is_cut_and_said(tmp_path):
    with opened(tmp_path, [call("a", call("b", call("c"), call("d")), call("b", call("c")))]) as trace:
        assert tree_of(trace, max_depth=2) == [("a×1", [("b×2", [])])]
        folded = Folded(trace.table(), max_depth=2)
        assert [node.hidden for node, _ in folded.walk()] == [0, 3]
        assert tree_of(trace, max_depth=0) == []


def test_what_took_little_is_left_out_and_counted(tmp_path):
    with opened(tmp_path, [call("a", call("b"), call("c", call("d", call("e"))), call("b"), call("b"))]) as trace:
        assert tree_of(trace, min_duration_ns=20) == [("a×1", [("c×1", [("d×1", [])]), ("b×2", [])])]
        assert [node.hidden for node, _ in Folded(trace.table(), min_duration_ns=20).walk()] == [1, 0, 1, 0]
        assert tree_of(trace, min_duration_ns=10**9) == []


def test_skipped_functions_hand_their_callees_up(tmp_path):
    def skip(function):
        return function.name in "ab"

    calls = [call("a", call("c"), call("b", call("a", call("d", call("a", call("e"))))), call("c")), call("f")]
    with opened(tmp_path, calls, [call("b", call("g"))]) as trace:
        assert tree_of(trace, skip=skip) == [("c×1", []), ("d×1", [("e×1", [])]), ("c×1", []), ("f×1", []), ("g×1", [])]
        assert tree_of(trace, skip=skip, threads=[1]) == [("g×1", [])]
        assert tree_of(trace, skip=lambda function: True) == []


def test_an_empty_trace_has_an_empty_tree(tmp_path):
    with opened(tmp_path, []) as trace:
        assert tree_of(trace) == []


def test_without_folding_every_call_stands_alone(tmp_path):
    with opened(tmp_path, [call("a", call("b"), call("b")), call("a")]) as trace:
        assert tree_of(trace, fold=False) == [("a×1", [("b×1", []), ("b×1", [])]), ("a×1", [])]


def test_deep_recursion_of_the_program_is_no_recursion_here(tmp_path):
    depth = 3000
    events = [event(100 + n, ord("a"), CALL, n + 1) for n in range(depth)]
    events += [event(100 + depth + n, ord("a"), RETURN, depth - n) for n in range(depth)]
    content = tf.manifest({0: {}}, {ord("a"): ("a", "", 0)}, {}, pid=50)
    tf.write_process(tmp_path / "session_20260101_120000", 50, {0: (200, events, ())}, content)
    with open_trace(tmp_path) as trace:
        assert sum(1 for _ in Folded(trace.table()).walk()) == depth


FEW = 3


def grouped(spans, neighbours):
    groups = []
    for span in spans:
        alike = [g for g in (groups[-1:] if neighbours else groups) if (g[0].function, g[0].status) == (span.function, span.status)]
        if alike:
            alike[0].append(span)
        else:
            groups.append([span])
    return groups


def slowly(spans, alone=True):
    """The same by the definition: neighbours fold; below several calls, and where neighbours leave many, whatever is alike does."""
    groups = grouped(spans, neighbours=True)
    if not alone or len(groups) > FEW:
        groups = grouped(spans, neighbours=False)
    return [
        (
            f"{g[0].function.name}×{len(g)}" + "!" * (g[0].status == "exception"),
            slowly([child for member in g for child in member.children], len(g) == 1),
        )
        for g in groups
    ]


CALLS = st.recursive(
    st.builds(lambda name, raised: (name, raised, ()), st.sampled_from("ab"), st.booleans()),
    lambda below: st.tuples(st.sampled_from("ab"), st.booleans(), st.lists(below, max_size=5)),
    max_leaves=60,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(CALLS, max_size=6))
def test_against_the_definition(tmp_path_factory, calls):
    with opened(tmp_path_factory.mktemp("fold"), calls) as trace:
        assert tree_of(trace, few=FEW) == slowly([node.span for node in trace.tree()])


@pytest.mark.parametrize("fold", [True, False])
def test_counts_and_durations_add_up(tmp_path, fold):
    def nested(depth):
        return call("abcdefgh"[depth], *(nested(depth - 1) for _ in range(3))) if depth else call("a")

    with opened(tmp_path, [nested(5)]) as trace:
        nodes = [node for node, _ in Folded(trace.table(), fold=fold).walk()]
        assert sum(node.count for node in nodes) == sum(3**n for n in range(6))
        assert sum(node.self_ns for node in nodes) == nodes[0].duration_ns
