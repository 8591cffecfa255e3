"""Shapes: equal exactly when the trees are; their text comes back as it was; what is wrong with a baseline is told."""

import os
import re
import shutil
from fnmatch import fnmatchcase

import call_trees as ct
import pytest
import tracefiles as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import atf
from atf.baselines import UPDATE
from atf.errors import FormatError, OutputError, TraceIncomplete, UsageError
from atf.shapes import MOST_LINES, Item, folded, read_shape, shape_of

pytestmark = pytest.mark.at_rest
QUICK = settings(max_examples=60, deadline=None)
IGNORES = st.sampled_from([(), ("log.*",), ("shop.tax.rate", "shop.db.?et"), ("*",)])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("shapes")


@pytest.fixture(autouse=True)
def no_update(monkeypatch):
    monkeypatch.delenv(UPDATE, raising=False)


def opened(place, program, name="session", **more):
    shutil.rmtree(place / name, ignore_errors=True)
    return atf.open(ct.write(place / name, ct.play(program)[0], **more))


def pruned(program, ignore):
    """The trees as plain lists, without what is ignored, threads without calls, and numbers of threads."""

    def tree(forest):
        return [(name, tree(below)) for name, below, _ in forest if not any(fnmatchcase(name, one) for one in ignore)]

    return sorted(one for one in map(tree, program) if one)


def passes(window, *args, **kwargs):
    try:
        window.same_shape_as(*args, **kwargs)
    except AssertionError as why:
        assert "first difference" in str(why)
        return False
    return True


@QUICK
@given(ct.programs, ct.programs, IGNORES)
def test_shapes_are_equal_when_the_trees_are(place, one, other, ignore):
    with opened(place, one, "one") as a, opened(place, other, "other") as b:
        file = place / "base.atf"
        b.window().same_shape_as(file, update=True)
        same = pruned(one, ignore) == pruned(other, ignore)
        assert passes(a.window(), file, ignore=ignore) == same  # what is ignored stands in the file
        assert passes(a.window(), place / "other", ignore=ignore) == same  # another recording is a baseline too
        assert passes(b.window(), file, ignore=ignore)


@QUICK
@given(ct.programs)
def test_the_text_comes_back(place, program):
    with opened(place, program) as trace:
        shape = shape_of(trace.window().rows, lambda name: False)
        assert read_shape(shape.text(), "x", lambda name: False) == shape
        for line in shape.lines()[1:]:
            assert re.fullmatch(r"thread worker-#|(  )+[\w.]+( ×\d+)?", line)


def unfolded(items):
    """Items as nested lists, every repetition written out."""
    roots, ways = [], [(-1, None)]
    ways = [(-1, roots)]
    for item in items:
        while ways[-1][0] >= item.level:
            ways.pop()
        below = []
        ways[-1][1].append((item.name, item.times, below))
        ways.append((item.level, below))

    def out(nodes):
        return [(name, out(below)) for name, times, below in nodes for _ in range(times)]

    return out(roots)


@QUICK
@given(st.lists(st.builds(Item, st.integers(0, 4), st.sampled_from("abc"), st.integers(1, 3)), max_size=12))
def test_folding_changes_no_tree(items):
    short = folded(items)
    assert unfolded(short) == unfolded(items) and folded(short) == short and len(short) <= len(items)


RATE, GET, ITEM = "shop.tax.rate", "shop.db.get", "shop.views.item"


def calls(*forest):
    """Trees from nested tuples."""
    return [(one, [], False) if isinstance(one, str) else (one[0], calls(*one[1:]), False) for one in forest]


def test_the_text_is_to_be_read(place):
    program = [calls((ITEM, (GET, RATE), (GET, RATE), RATE), ITEM), calls(RATE)]
    with opened(place, program, filters={"include": ["shop"], "exclude": [], "python": True}, level="c,args") as trace:
        trace.same_shape_as(place / "read.atf", update=True)
    text = (place / "read.atf").read_text()
    assert text == (
        "atf shape 1\nrecorded include shop, C functions too\nthread worker-#\n  shop.tax.rate\nthread worker-#\n"
        "  shop.views.item\n    shop.db.get ×2\n      shop.tax.rate\n    shop.tax.rate\n  shop.views.item\n"
    )


def test_what_is_installed_is_no_part_of_a_baseline(place):
    texts = set()
    for many in (100, 200):
        with opened(place, [calls(ITEM)], filters={"exclude": [f"package{n}" for n in range(many)]}) as trace:
            texts.add(shape_of(trace.window().rows, lambda name: False).text())
    assert texts == {"atf shape 1\nrecorded exclude many modules\nthread worker-#\n  shop.views.item\n"}


def test_a_difference_is_shown_where_it_is(place):
    with opened(place, [calls((ITEM, GET, RATE, RATE))], filters={"include": ["shop"]}) as trace:
        trace.same_shape_as(place / "base.atf", update=True)
    with opened(place, [calls((ITEM, GET, RATE, RATE, RATE))]) as trace, pytest.raises(AssertionError) as why:
        trace.same_shape_as(place / "base.atf")
    lines = str(why.value).split("\n")
    assert "--atf-update" in lines[0] and "base.atf" in lines[0]
    assert lines[1] == "first difference below shop.views.item: expected 'shop.tax.rate ×2', found 'shop.tax.rate ×3'"
    assert lines[2] == "the baseline was recorded with include shop, this with no filters"
    assert "  -    shop.tax.rate ×2" in lines and "  +    shop.tax.rate ×3" in lines
    with opened(place, [calls((ITEM, GET))]) as trace, pytest.raises(AssertionError, match=r"expected 'shop.tax.rate ×2', found nothing more"):
        trace.same_shape_as(place / "base.atf")


def test_comprehensions_are_no_calls_of_their_own(place):
    """From Python 3.12 on they are not, and a baseline is to outlive an upgrade."""
    ids = {"main": 1 << 32, "main.<locals>.<listcomp>": 1 << 32 | 1, "f": 1 << 32 | 2, "main.<locals>.<genexpr>": 1 << 32 | 3}
    events = [(id, depth, kind) for id, depth in (("main", 1), ("main.<locals>.<listcomp>", 2), ("f", 3)) for kind in (1,)]
    events += [("f", 3, 2), ("main.<locals>.<listcomp>", 2, 2), ("f", 2, 1), ("f", 2, 2), ("main.<locals>.<genexpr>", 2, 1), ("main.<locals>.<genexpr>", 2, 2)]
    made = [tf.event(100 + at, ids[name], kind, depth) for at, (name, depth, kind) in enumerate(events)]
    shutil.rmtree(place / "comp", ignore_errors=True)
    symbols = {id: (name, "", 1) for name, id in ids.items()}
    tf.write_process(place / "comp", 50, {0: (100, made, ())}, tf.manifest({0: {"tid": 100, "name": "t"}}, symbols, {1: "app"}, pid=50))
    with atf.open(place / "comp") as trace:
        lines = shape_of(trace.window().rows, lambda name: False).lines()
    assert lines[1:] == ["thread t", "  app.main", "    app.f ×2", "    app.main.<locals>.<genexpr>"]


def test_updates(place, monkeypatch, tmp_path):
    file = tmp_path / "below" / "base.atf"
    with opened(place, [calls(ITEM)]) as trace:
        w = trace.window()
        w.baselines = tmp_path
        with pytest.raises(UsageError, match="no baseline yet; --atf-update"):
            w.same_shape_as("below/base.atf")
        monkeypatch.setenv(UPDATE, "1")
        w.same_shape_as("below/base.atf")
        before = file.stat()
        os.utime(file, (1, 1))
        w.same_shape_as("below/base.atf")
        assert file.stat().st_mtime == 1 and file.stat().st_ino == before.st_ino  # the same text is not written again
        assert os.listdir(file.parent) == ["base.atf"]
        file.write_text("# notes of mine\n")
        with pytest.raises(FormatError, match="not overwritten"):
            w.same_shape_as("below/base.atf")
        with pytest.raises(UsageError, match="is a recording"):
            w.same_shape_as(place / "session")
        with pytest.raises(OutputError, match="cannot be written"):
            w.same_shape_as(file / "x")
        monkeypatch.setenv(UPDATE, "0")
        with pytest.raises(FormatError, match="is no baseline of atf"):
            w.same_shape_as("below/base.atf")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no baseline"),
        ("atf shape\n", "is no baseline"),
        ("\x00\xff", "is no baseline"),
        ("atf shape 2\nthread x\n", "of version 2, and this release knows version 1"),
        ("atf shape 1\n  early\n", "line 2: 'early' is deeper"),
        ("atf shape 1\nthread t\n    a\n", "line 3: 'a' is deeper"),
        ("atf shape 1\nthread t\n  a\n      b\n", "line 4: 'b' is deeper"),
        ("atf shape 1\nthread t\n a\n", "line 3: ' a' is no call"),
        ("atf shape 1\nthread t\nwhat\n", "line 3: 'what' is no call"),
    ],
)
def test_what_is_wrong_with_a_baseline_is_told(place, text, said):
    file = place / "bad.atf"
    file.write_text(text, encoding="latin-1")
    with opened(place, [calls(ITEM)]) as trace, pytest.raises(FormatError, match=said):
        trace.same_shape_as(file)


def test_a_checkout_may_have_changed_the_ends_of_lines(place):
    file = place / "crlf.atf"
    with opened(place, [calls((ITEM, RATE))]) as trace:
        trace.same_shape_as(file, update=True)
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        trace.same_shape_as(file)


def test_a_shape_has_its_limits():
    with pytest.raises(UsageError, match="smaller window"):
        folded(Item(0, f"f{n}", 1) for n in range(MOST_LINES + 1))
    with pytest.raises(UsageError, match="smaller window"):
        folded(Item(n, "f", 1) for n in range(10_000))


def test_a_lossy_recording_is_no_baseline(place):
    from test_windows import gapped

    shutil.rmtree(place / "lossy", ignore_errors=True)
    ct.write(place / "lossy", [gapped(2)])
    with opened(place, [calls(ITEM)]) as trace, pytest.raises(TraceIncomplete, match="cannot be a baseline"):
        trace.same_shape_as(place / "lossy")
    with atf.open(place / "lossy") as trace, pytest.raises(TraceIncomplete):
        trace.same_shape_as(place / "new.atf", update=True)
    assert not (place / "new.atf").exists()
