"""Names that filters or the level of a recording left out: a trace does not say that they were not called."""

import itertools
import shutil
from fnmatch import fnmatchcase

import call_trees as ct
import pytest
import tracefiles as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tracefiles import CALL, INSTANT, RETURN

import atf
from atf.errors import TraceIncomplete
from atf.left_out import is_compiled, overlap

pytestmark = pytest.mark.at_rest
TEXTS = ["".join(letters) for n in range(7) for letters in itertools.product("ab.", repeat=n)]
PATTERNS = st.text(alphabet="ab.*?", max_size=3) | st.sampled_from(["[ab]", "[!a]*", "a[b.]", "*[!.]", "[!ab]"])


@settings(max_examples=150, deadline=None)
@given(PATTERNS, PATTERNS)
def test_overlap_is_that_some_text_fits_both(one, other):
    assert overlap(one, other) == overlap(other, one)
    if any(fnmatchcase(text, one) and fnmatchcase(text, other) for text in TEXTS):
        assert overlap(one, other)
    elif not any(c in one + other for c in "[]"):  # with classes, other letters may fit
        assert not overlap(one, other)


RATE = ct.IDS["shop.tax.rate"]


def ask(place, pattern, include=(), exclude=(), python=True, level="returns", found=False):
    """Whether `never` or, where something was called, a count knows the answer."""
    events = [tf.event(100, RATE, CALL), tf.event(110, RATE, RETURN)] if found else [tf.event(100, 7, INSTANT)]
    shutil.rmtree(place / "session", ignore_errors=True)
    filters = {"include": list(include), "exclude": list(exclude), "python": python}
    with atf.open(ct.write(place / "session", [events], filters=filters, level=level)) as trace:
        try:
            return trace.calls(pattern) == int(found and ct.fits(ct.Node("shop.tax.rate", 0, None), pattern)) or "wrong"
        except TraceIncomplete as why:
            assert "\n" not in str(why)
            return False


@pytest.mark.parametrize(
    ("pattern", "include", "exclude", "known"),
    [
        ("requests.get", [], [], True),
        ("requests.get", [], ["requests"], False),
        ("requests.*", [], ["requests"], False),
        ("requests.*", [], ["requests.*"], False),
        ("requests.sessions.Session.get", [], ["requests.sessions"], False),
        ("requests.api.get", [], ["requests.sessions"], True),
        ("requests.*", [], ["requests.sessions"], False),
        ("requests_oauth.get", [], ["requests"], True),
        ("requests.*", ["shop"], [], False),
        ("shop.tax.rate", ["shop"], [], True),
        ("shop.tax.rate", ["shop.*"], [], True),
        ("shop.rate", ["shop.*"], [], False),  # the package itself does not fit
        ("shop.*", ["shop.*"], [], True),  # asked for in the words of the filter
        ("shop.*", ["shop"], [], True),
        ("shop.t*", ["shop"], [], True),
        ("shop.*", ["shop.tax"], [], False),
        ("shop.t*.rate", ["shop.tax"], [], False),
        ("shopping.rate", ["shop"], [], False),
        ("shop.tax.rate", ["shop"], ["shop.tax"], False),
        ("shop.db.*", ["shop"], ["shop.tax"], True),
        ("shop.tax.Rate.of", ["shop.tax"], [], True),
        ("rate", [], [], True),
        ("rate", ["shop"], [], False),
        ("rate", [], ["requests"], False),
        ("rate", [], ["_pytest", "pluggy.*", "atf"], True),  # nobody means those
        ("*.rate", ["shop"], [], False),
        ("[rs]*.rate", [], ["requests"], False),
    ],
)
def test_what_filters_left_out_is_not_known(tmp_path, pattern, include, exclude, known):
    assert ask(tmp_path, pattern, include, exclude) is known


@pytest.mark.parametrize("pattern", ["rate", "shop.tax.rate", "*.rate"])
def test_a_name_that_was_recorded_is_meant(tmp_path, pattern):
    assert ask(tmp_path, pattern, exclude=["requests"], found=True) is True


def test_a_pattern_means_what_was_left_out_too(tmp_path):
    assert ask(tmp_path, "shop.*", exclude=["shop.db"], found=True) is False


def test_own_spans_alone(tmp_path):
    assert ask(tmp_path, "shop.tax.rate", python=False) is False


@pytest.mark.parametrize(
    ("pattern", "level", "known"),
    [
        ("time.sleep", "returns", False), ("time.*", "returns", False), ("builtins.list.append", "args", False), ("time.sleep", "c", True),
        ("time.sleep", "c,args", True), ("json.dumps", "returns", True), ("json.*", "returns", True), ("no.such.module", "returns", True),
    ],
)  # fmt: skip
def test_functions_in_c_are_recorded_at_their_level_only(tmp_path, pattern, level, known):
    import json

    assert json.dumps
    assert ask(tmp_path, pattern, level=level) is known


def test_what_is_compiled_is_known_without_importing():
    assert is_compiled("time.sleep") and is_compiled("builtins.len") and is_compiled("builtins.dict.get")
    assert not is_compiled("sleep") and not is_compiled("os.path.join") and not is_compiled("collections.OrderedDict")


def test_under_and_parents_may_be_left_out_too(tmp_path):
    place = ct.write(tmp_path / "s", [[tf.event(100, RATE, CALL), tf.event(110, RATE, RETURN)]], filters={"exclude": ["shop.views"]})
    with atf.open(place) as trace:
        for ask_it in (lambda: trace.calls("rate", under="shop.views.item") == 0, lambda: trace.calls("rate").max_per("shop.views.item") == 0):
            with pytest.raises(TraceIncomplete, match=r"left out 'shop\.views'"):
                ask_it()
