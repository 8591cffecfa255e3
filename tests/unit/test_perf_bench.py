"""The arithmetic and the honesty of the benchmarks' shared helpers; nothing here is timed."""

import argparse
import importlib
import json
import sys
from pathlib import Path

import pytest

PERF = Path(__file__).resolve().parents[2] / "perf"


@pytest.fixture(autouse=True)
def perf_on_path(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(PERF))
    yield
    for name in set(sys.modules) - before:
        if str(PERF) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def bench():
    return importlib.import_module("_bench")


@pytest.fixture
def report(bench, tmp_path):
    return bench.Report("trial", argparse.Namespace(rounds=2, quick=True, json=str(tmp_path / "out.json")))


def test_cases_run_in_turn_and_every_round_begins_with_another(bench):
    order = []
    cases = {name: (lambda name=name: order.append(name) or len(order)) for name in "abc"}
    results = bench.in_turn(cases, 3)
    assert order == list("abcbcacab")
    assert results == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_a_ratio_is_taken_within_a_round(bench):
    spread = bench.ratios([10.0, 30.0, 8.0], [5.0, 10.0, 8.0])
    assert (spread.low, spread.median, spread.high) == (1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match="shorter"):
        bench.ratios([1.0, 2.0], [1.0])


def test_geometric_mean_of_a_double_and_a_half_is_one(bench):
    assert bench.geometric_mean([2.0, 0.5]) == pytest.approx(1.0)


def test_a_goal_is_met_by_the_median_in_its_direction(bench, report, capsys):
    spread = bench.Spread(10.0, 5.0, 20.0)
    report.goal("small", spread, "≤", 10)
    report.goal("large", spread, "≥", 11)
    report.goal("the lowest does not count", spread, "≤", 9)
    report.goal("the median is enough", spread, "≥", 10)
    assert [goal["met"] for goal in report.goals] == [True, False, False, True]
    shown = capsys.readouterr().out
    assert "✓ small" in shown and "✗ large" in shown
    assert report.finish() == 0  # a missed goal is a result, not a failure


def test_a_failed_check_fails_the_benchmark_and_is_written_down(report, tmp_path):
    report.check(True, "fine")
    report.check(False, "3 records lost")
    assert report.finish() == 1
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["failures"] == ["3 records lost"]
    assert {"cpu", "cores", "kernel", "python", "load"} <= set(written["machine"])


def test_rounds_below_one_are_refused(bench, capsys):
    with pytest.raises(SystemExit):
        bench.parse(bench.parser("x", rounds=3), ["--rounds", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_table_is_markdown_with_equal_widths(bench):
    lines = bench.table(["name", "ns"], [["span", 100], ["a longer one", 7]]).splitlines()
    assert lines[1].strip("|-") == "" and len({len(line) for line in lines}) == 1


def test_drain_refuses_a_pass_that_lost_a_record(report):
    drain = importlib.import_module("drain")
    good = {"events": 10, "lost": 0, "bytes": 448}
    drain.check(report, "pass", 10, good)
    assert report.failures == []
    for bad in ({"lost": 1}, {"events": 9}, {"bytes": 319}):
        drain.check(report, "pass", 10, good | bad)
    assert len(report.failures) == 3


def test_overheads_are_of_the_mean_of_both_untraced_runs():
    calls = importlib.import_module("python_calls")
    figures = calls.Figures("wall")
    for program in calls.NAMES:
        for tool, wall in ((calls.BASE, 90), (calls.AGAIN, 110), ("atf ring", 120), ("viztracer", 180)):
            figures.add(tool, program, {"samples": [[wall, 0, 0], [wall + 1, 0, 0], [wall - 1, 0, 0]]})
    assert figures.overhead("atf ring", "fib").median == pytest.approx(0.2)
    assert figures.against("atf ring", "viztracer").median == pytest.approx(0.25)


def test_an_overhead_below_the_floor_counts_as_the_floor():
    calls = importlib.import_module("python_calls")
    figures = calls.Figures("wall")
    for program in calls.NAMES:
        for tool, wall in ((calls.BASE, 100), (calls.AGAIN, 100), ("atf ring", 90), ("viztracer", 200)):
            figures.add(tool, program, {"samples": [[wall, 0, 0]]})
    assert figures.against("atf ring", "viztracer").median == pytest.approx(calls.FLOOR)


def message(*fields: bytes) -> bytes:
    return b"".join(fields)


def nested(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2, len(body)]) + body


def test_slices_of_a_perfetto_trace_are_counted(tmp_path):
    perfetto = importlib.import_module("_perfetto")
    begin, end = bytes([9 << 3, 1]), bytes([9 << 3, 2])
    packets = [
        nested(1, message(bytes([8 << 3, 0x80, 0x01]), nested(11, begin))),
        nested(1, nested(11, message(bytes([(3 << 3) | 1]), bytes(8), begin))),
        nested(1, nested(11, end)),
        nested(1, nested(12, begin)),
    ]
    (tmp_path / "trace").write_bytes(b"".join(packets))
    assert perfetto.count_slices(tmp_path / "trace") == 2
    (tmp_path / "trace").write_bytes(bytes([1 << 3 | 3]))
    with pytest.raises(ValueError, match="not a Perfetto trace"):
        perfetto.count_slices(tmp_path / "trace")


@pytest.mark.parametrize("name", ["fib", "scheduler", "raytrace", "json_encoder", "async_tasks"])
def test_a_program_returns_its_checksum_every_time(name):
    program = importlib.import_module(f"programs.{name}")
    assert program.main(program.QUICK) == program.main(program.QUICK) == program.CHECKSUMS[program.QUICK]
    assert program.main(program.FULL) == program.CHECKSUMS[program.FULL]
