"""How numbers, tables and options of the command line look."""

import argparse
import json
import math

import pytest

from atf.cli import common, text


@pytest.mark.parametrize(
    ("ns", "shown"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1000, "1.00 µs"),
        (1234, "1.23 µs"),
        (12_345, "12.3 µs"),
        (99_960, "100 µs"),
        (999_400, "999 µs"),
        (999_600, "1.00 ms"),
        (1_234_567, "1.23 ms"),
        (59_900_000_000, "59.9 s"),
        (60_000_000_000, "1 min 0.0 s"),
        (119_990_000_000, "2 min 0.0 s"),
        (-1234, "-1.23 µs"),
        (12.5, "12.5 ns"),
        (None, "-"),
    ],
)
def test_duration(ns, shown):
    assert text.duration(ns) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 << 50, "5120.0 TiB")])
def test_size(count, shown):
    assert text.size(count) == shown


def test_clean_keeps_one_line_and_no_control_characters():
    assert text.clean("a\nb\x1b[31mc\x9bé\ud800") == "a\\nb\\x1b[31mc\\x9bé\\ud800"


def test_table_in_a_pipe_is_aligned(capsys):
    text.print_table([">count", "name"], [(5, "short"), (1000, "longer\nname")], "title")
    assert capsys.readouterr().out == "count  name\n    5  short\n 1000  longer\\nname\n"


DURATIONS = [("12", 12), ("1.5ms", 1_500_000), ("2 s", 2 * 10**9), (".5us", 500), ("1µs", 1000), ("1h", 3600 * 10**9)]


@pytest.mark.parametrize(("given", "ns"), DURATIONS)
def test_duration_option(given, ns):
    assert common.duration_ns(given) == ns


@pytest.mark.parametrize("given", ["", "ms", "1x", "-1ms", "1.2.3s", "1e3"])
def test_bad_duration_option(given):
    with pytest.raises(argparse.ArgumentTypeError):
        common.duration_ns(given)


def test_moments_with_a_unit_are_relative():
    assert common.Moment("2ms").absolute_ns(100) == 2_000_100
    assert common.Moment("2000").absolute_ns(100) == 2000


def test_timestamps_keep_every_nanosecond():
    assert common.duration_ns("1234567890123456789") == 1234567890123456789


def test_json_takes_what_msgpack_carries():
    document = {"a": math.nan, "b": {1: [math.inf, b"\xff"]}, (1, 2): "\ud800"}
    shown = common.dumps(document)
    assert "NaN" not in shown and "Infinity" not in shown
    assert json.loads(shown) == {"a": "nan", "b": {"1": ["inf", "ff"]}, "(1, 2)": "\ud800"}


def test_json_list_is_one_document(capsys):
    common.print_json_list({"trace": "x"}, "rows", iter([{"n": 1}, {"n": 2}]))
    assert json.loads(capsys.readouterr().out) == {"trace": "x", "rows": [{"n": 1}, {"n": 2}]}
    common.print_json_list({}, "rows", ())
    assert json.loads(capsys.readouterr().out) == {"rows": []}
