"""The first divergence of two traces, by walking the trees; siblings side by side; `atf.compare` and `atf diff`."""

import itertools
import json
import shutil

import call_trees as ct
import pytest
import tracefiles as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from query_calls import Caller
from test_windows import gapped
from tracefiles import CALL, RETURN

import atf
from atf.cli import main
from atf.errors import FormatError, UsageError
from atf.query import divergence
from atf.query.alignment import align

pytestmark = pytest.mark.at_rest
QUICK = settings(max_examples=60, deadline=None)
ONE, OTHER = "session_20260101_000000", "session_20260102_000000"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("divergence")


def write(place, *programs):
    for name, program in zip((ONE, OTHER), programs):
        shutil.rmtree(place / name, ignore_errors=True)
        ct.write(place / name, ct.play(program)[0])


def common(one, other):
    """The length of a longest common subsequence."""
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + common(one[1:], other[1:])
    return max(common(one[1:], other), common(one, other[1:]))


@QUICK
@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_siblings_are_aligned_as_far_as_can_be(one, other):
    pairs = align(one, other)
    assert [a for a, _ in pairs if a is not None] == list(range(len(one)))
    assert [b for _, b in pairs if b is not None] == list(range(len(other)))
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    assert all(one[a] == other[b] for a, b in both) and len(both) == common(one, other)


@QUICK
@given(st.lists(st.sampled_from("ab"), max_size=6), st.lists(st.sampled_from("ab"), max_size=6), st.sampled_from([(True, False), (False, True), (True, True)]))
def test_what_may_follow_is_not_called_missing(one, other, cut):
    pairs = align(one, other, cut)
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    assert all(one[a] == other[b] for a, b in both)
    seen = [[p[side] for p in pairs if p[side] is not None] for side in (0, 1)]
    assert seen[0] == list(range(len(seen[0]))) and seen[1] == list(range(len(seen[1])))
    assert cut[1] or len(seen[0]) == len(one)
    assert cut[0] or len(seen[1]) == len(other)

    def least(i, j):
        """How few stand alone, whatever ways there are."""
        if i == len(one):
            return 0 if cut[0] else len(other) - j
        if j == len(other):
            return 0 if cut[1] else len(one) - i
        ways = [1 + least(i + 1, j), 1 + least(i, j + 1)]
        return min([*ways, least(i + 1, j + 1)] if one[i] == other[j] else ways)

    assert len(pairs) - len(both) == least(0, 0)


def first_difference(one, other):
    """(caller's path, position, name before, name after) of two forests, looking at what was called first; None: they are the same.

    By walking both trees at once: the first call, as calls follow one another, that is not below the same caller or has another name.
    """

    def walk(forest, path, numbers):
        for at, (name, below, _) in enumerate(forest):
            yield path, numbers, at, name
            yield from walk(below, (*path, name), (*numbers, at))

    for a, b in itertools.zip_longest(walk(one, (), ()), walk(other, (), ())):
        if a != b:
            # The deeper one says where: there the other one made no more calls.
            deeper = max((side for side in (a, b) if side), key=lambda side: len(side[0]))
            names = [side[3] if side and side[:3] == deeper[:3] else None for side in (a, b)]
            return list(deeper[0]), deeper[2], *names
    return None


def edited(forest, at, how):
    """The same forest with its at-th call left out, doubled, of another name, with a call more below it, or with its last call made by its
    caller instead.
    """
    found, left = [], at
    for name, below, raises in forest:
        if left == 0:
            found += {
                "out": [], "twice": [(name, below, raises)] * 2, "other": [("log.write", below, raises)], "more": [(name, [*below, ("log.write", [], False)], raises)],
                "up": [(name, below[:-1], raises), *below[-1:]],
            }[how]  # fmt: skip
            left -= 1
        elif left > 0:
            size = sum(1 for _ in calls_of(below))
            found.append((name, edited(below, left - 1, how) if left <= size else below, raises))
            left -= size + 1
        else:
            found.append((name, below, raises))
    return found


def calls_of(forest):
    for name, below, _ in forest:
        yield name
        yield from calls_of(below)


@QUICK
@given(ct.forests(), ct.forests(), st.sampled_from(["out", "twice", "other", "more", "up", "same", "strange"]), st.integers(0, 8))
def test_the_first_divergence_is_that_of_the_trees(place, one, other, how, at):
    if how == "same":
        other = one
    elif how != "strange":
        other = edited(one, at, how)
    write(place, [one], [other])
    found = Caller(place)("trace.compare", ONE, other=OTHER)["firstDivergence"]
    expected = first_difference(one, other)
    if expected is None:
        assert found is None
        return
    names = [None if call is None else f"{call['moduleName']}.{call['functionName']}" for call in (found["before"], found["after"])]
    assert (found["path"], found["position"], *names) == expected
    signs = [(s["change"], s["name"]) for s in found["siblings"] for _ in range(s["count"])]
    # What one side shows of siblings is what that trace has there.
    for program, gone in ((one, "appeared"), (other, "vanished")):
        level = program
        for number in range(len(expected[0])):
            level = way(level, one, other, expected, number)
        had = [name for name, _, _ in level][max(0, expected[1] - divergence.BEFORE) :]
        assert [name for change, name in signs if change != gone] == had


def way(level, one, other, expected, number):
    """The calls below the caller that both have, one level down: the last one that both made, where the divergence is within it."""
    numbers = path_numbers(one, other)
    return level[numbers[number]][1]


def path_numbers(one, other):
    def walk(forest, numbers):
        for at, (name, below, _) in enumerate(forest):
            yield (*numbers, at), name
            yield from walk(below, (*numbers, at))

    for a, b in itertools.zip_longest(walk(one, ()), walk(other, ())):
        if a != b:
            return max((side[0] for side in (a, b) if side), key=len)[:-1]
    return None


def test_of_several_threads_the_earliest_counts(place):
    def thread(n, late):
        own = [tf.event(1000, ct.IDS["shop.views.item"], CALL, 1, tid=100 + n)]
        own += [tf.event(1000 + late, ct.IDS["shop.db.get" if late else "shop.db.put"], CALL, 2, tid=100 + n)]
        return own

    for name, lates in ((ONE, (0, 0)), (OTHER, (500, 300))):
        shutil.rmtree(place / name, ignore_errors=True)
        ct.write(place / name, [thread(n, late) for n, late in enumerate(lates)])
    found = Caller(place)("trace.compare", ONE, other=OTHER)["firstDivergence"]
    assert found["threadName"] == "worker-0" and found["afterNs"] == 0  # the earlier of both sides: there all began at once
    write(place, [[("log.write", [], False)]], [[("log.write", [], False)], [("shop.db.get", [], False)]])
    found = Caller(place)("trace.compare", ONE, other=OTHER)["firstDivergence"]
    assert (found["threadName"], found["beforeThreadId"], found["afterThreadId"]) == ("worker-1", None, 101)
    assert found["before"] is None and found["after"]["functionName"] == "get" and found["path"] == []


def test_far_away_and_among_many_siblings(place, monkeypatch):
    monkeypatch.setattr(divergence, "_FIRST", 8)
    monkeypatch.setattr(divergence, "CHUNK", 16)
    many = [("shop.tax.rate", [], False)] * 300
    for at in (250, 100):  # near the end, and with more behind it than is looked at
        other = [*many[:at], ("shop.db.get", [], False), *many[at:]]
        for one, two, path in (
            ([("shop.views.item", many, False)], [("shop.views.item", other, False)], ["shop.views.item"]),
            (many, other, []),
        ):
            write(place, [one], [two])
            found = Caller(place)("trace.compare", ONE, other=OTHER)["firstDivergence"]
            assert found["position"] == at and found["path"] == path and found["before"]["functionName"] == "rate"
            assert [(s["change"], s["name"], s["count"]) for s in found["siblings"]] == [
                ("same", "shop.tax.rate", 3), ("appeared", "shop.db.get", 1), ("same", "shop.tax.rate", 50 if at == 250 else 59),
            ]  # fmt: skip


def test_only_the_first_page_has_it(place):
    write(place, [[("log.write", [], False)]], [[("shop.db.get", [("shop.db.put", [], False)], False)]])
    first = Caller(place)("trace.compare", ONE, other=OTHER, limit=1)
    assert first["firstDivergence"]["path"] == []
    for other in ({"cursor": first["metadata"]["nextCursor"]}, {"divergence": False}):
        assert "firstDivergence" not in Caller(place)("trace.compare", ONE, other=OTHER, limit=1, **other)


CHECKOUT = ("shop.views.item", [("shop.db.get", [], False), ("shop.tax.rate", [], False)], False)
CHANGED = ("shop.views.item", [("shop.db.get", [], False), ("shop.db.put", [], False), ("shop.tax.rate", [], False)], False)


def test_compare(place):
    write(place, [[CHECKOUT]], [[CHANGED]])
    found = atf.compare(place / ONE, place / OTHER)
    assert found and not found.same and [c.function_name for c in found.appeared] == ["put"] and found.vanished == [] and found.counts == []
    assert found.first_divergence.after.function_name == "put" and found.incomplete == []
    # The same number of calls of each function is not the same yet.
    write(place, [[CHECKOUT]], [[("shop.views.item", [*CHECKOUT[1][::-1]], False)]])
    assert not atf.compare(place / ONE, place / OTHER).same and atf.compare(place / ONE, place / OTHER).counts == []
    text = str(found).split("\n")
    assert text[2:8] == [
        "first divergence, 30 ns after the begin, in worker-0:", "  shop.views.item  after 1 call", "      shop.db.get", "  +   shop.db.put",
        "      shop.tax.rate", "appeared:",
    ]  # fmt: skip
    with atf.open(place / ONE) as one:
        same = atf.compare(one, place / ONE, by="paths", confidence="noise")
        assert same.same and not same and str(same).endswith("the calls are the same") and same.times == []
    more = [CHECKOUT, CHECKOUT]
    write(place, [[CHECKOUT]], [more])
    assert [c.count_delta for c in atf.compare(place / ONE, place / OTHER).counts] == [1, 1, 1]


def test_compare_says_what_may_be_missing(place):
    write(place, [[CHECKOUT]])
    shutil.rmtree(place / OTHER, ignore_errors=True)
    ct.write(place / OTHER, [gapped(2)])
    found = atf.compare(place / ONE, place / OTHER)
    assert found.incomplete == ["after: 5 events of thread 'worker-0' were lost (exhausted); a larger ring_size keeps more"]
    assert f"incomplete: {found.incomplete[0]}" in str(found)


def test_what_cannot_be_compared(place):
    write(place, [[CHECKOUT]])
    with pytest.raises(UsageError, match="is not there"):
        atf.compare(place / ONE, place / "nothing")
    with pytest.raises(UsageError, match="metric"):
        atf.compare(place / ONE, place / ONE, metric="size")
    (place / "empty").mkdir(exist_ok=True)
    with pytest.raises(FormatError):
        atf.compare(place / "empty", place / ONE)


def test_diff_has_the_exit_status_of_diff(place, capsys):
    write(place, [[CHECKOUT]], [[CHANGED]])
    one, other = str(place / ONE), str(place / OTHER)
    assert main(["diff", one, one]) == 0
    assert "the calls are the same" in capsys.readouterr().out
    assert main(["diff", one, other]) == 1
    assert "  +   shop.db.put" in capsys.readouterr().out
    assert main(["diff", one, other, "--json", "--by", "paths"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["same"] is False and said["firstDivergence"]["after"]["functionName"] == "put" and said["after"]["traceId"] == other
    assert said["changes"][0]["path"] == ["shop.views.item", "shop.db.put"]
    (place / "empty").mkdir(exist_ok=True)
    for wrong in (["diff", one, str(place / "gone")], ["diff", one, str(place / "empty")], ["diff"], ["diff", one, other, "--min-change", "2"], ["diff", one]):
        assert main(wrong) == 2
        assert capsys.readouterr().err.startswith("atf: ")


def test_limits_of_the_text(place):
    write(place, [[(name, [], False) for name in ct.NAMES]], [[]])
    shutil.rmtree(place / OTHER)
    ct.write(place / OTHER, [[tf.event(100, 9, CALL), tf.event(110, 9, RETURN)]])
    lines = list(atf.compare(place / ONE, place / OTHER).lines(limit=2))
    assert "  … and 3 more" in lines
