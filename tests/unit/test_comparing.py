"""The last green trace of a test: which line of which index counts."""

import json
import os

import call_trees as ct
import pytest

from atf.cli import main
from atf.comparing import green_for, last_green, nodeid_of
from atf.errors import UsageError

pytestmark = pytest.mark.at_rest
NODE = "tests/test_shop.py::test_checkout"


def entry(run, path, outcome="passed", nodeid=NODE, make=True, **more):
    if make:
        (run / path).mkdir(parents=True, exist_ok=True)
    run.mkdir(exist_ok=True)
    with open(run / "index.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"nodeid": nodeid, "outcome": outcome, "path": path, **more}) + "\n")
    return str(run / path)


def test_the_newest_of_the_same_test_that_passed_and_is_there(tmp_path):
    entry(tmp_path, "a", time=5.0)
    wanted = entry(tmp_path, "b", time=9.0)
    entry(tmp_path, "c", time=7.0)
    entry(tmp_path, "red", "failed", time=10)
    entry(tmp_path, "gone", time=11, make=False)
    entry(tmp_path, "other", nodeid="x", time=12)
    assert last_green(tmp_path, NODE) == wanted
    assert last_green(tmp_path, NODE, other_than=wanted) == str(tmp_path / "c")
    assert last_green(tmp_path, "y") is None and last_green(tmp_path / "nothing", NODE) is None


def test_without_times_the_last_line_and_the_last_run_count(tmp_path):
    entry(tmp_path / "20260101", "a")
    entry(tmp_path / "20260102", "a")
    wanted = entry(tmp_path / "20260102", "gw0/b")
    assert last_green(tmp_path, NODE) == wanted
    entry(tmp_path / "20260103", "a", "failed")
    assert last_green(tmp_path, NODE) == wanted


def test_text_that_sorts_is_a_time(tmp_path):
    wanted = entry(tmp_path, "a", time="2026-02-01T00:00:00")
    entry(tmp_path, "b", time="2026-01-01T00:00:00")
    assert last_green(tmp_path, NODE) == wanted


@pytest.mark.parametrize("line", [b"{", b"[]", b'"x"', b"\xff\xfe", b'{"nodeid": 3}', b'{"nodeid": "%s", "outcome": "passed", "path": 3}' % NODE.encode(), b""])
def test_damaged_lines_are_passed_over(tmp_path, line):
    wanted = entry(tmp_path, "a")
    with open(tmp_path / "index.jsonl", "ab") as file:
        file.write(line + b"\n")
    assert last_green(tmp_path, NODE) == wanted


def test_a_test_is_known_by_its_meta_or_manifest(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "meta.json").write_text(json.dumps({"nodeid": NODE}))
    assert nodeid_of(tmp_path / "one") == NODE
    ct.write(tmp_path / "two", [[]], test={"nodeid": "n"})
    assert nodeid_of(tmp_path / "two") == "n" and nodeid_of(tmp_path / "three") is None


def test_diff_of_one_trace_is_against_the_last_green(tmp_path, capsys):
    run = tmp_path / "20260101"
    entry(tmp_path.parent, f"green-{tmp_path.name}")  # of another project
    entry(run, "green")
    entry(run, "red", "failed")
    for name, forest in (("green", [("log.write", [], False)]), ("red", [("shop.db.get", [], False)])):
        ct.write(run / name, ct.play([forest])[0], test={"nodeid": NODE})
    assert green_for(run / "red") == str(run / "green")
    assert main(["diff", str(run / "red")]) == 1
    assert "vanished:\n  log.write" in capsys.readouterr().out
    os.rename(run / "green", run / "away")
    before = entry(tmp_path / "20251231", "gw0/green")
    assert green_for(run / "red") == before  # of an earlier run
    os.rename(before, tmp_path / "away")
    with pytest.raises(UsageError, match="that passed"):
        green_for(run / "red")
    assert main(["diff", str(run / "red")]) == 2
