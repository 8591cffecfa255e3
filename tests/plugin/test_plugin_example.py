"""The example of docs/testing.md: a test that is green or red by the order of a set, and what its trace says."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def seeds():
    """A PYTHONHASHSEED with which the north comes first, and one with which the south does."""
    found = {}
    for seed in map(str, range(50)):
        asked = [sys.executable, "-S", "-c", "print(next(iter({'north', 'south'})))"]
        first = subprocess.run(asked, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout.strip()
        found.setdefault(first, seed)
        if len(found) == 2:
            return found["north"], found["south"]
    raise AssertionError(found)


def test_the_flaky_test_is_understood(suite, monkeypatch):
    shutil.copytree(ROOT / "examples" / "warehouse", suite.pytester.path, dirs_exist_ok=True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    green, red = seeds()
    monkeypatch.setenv("PYTHONHASHSEED", green)
    suite.run("--atf=on").assert_outcomes(passed=3)
    monkeypatch.setenv("PYTHONHASHSEED", red)
    result = suite.run("--atf")
    result.assert_outcomes(passed=2, failed=1)
    document = (ROOT / "docs" / "testing.md").read_text()
    said = [
        "        warehouse.orders.send *raised warehouse.stock.OutOfStock: south has 1, not 3]",
        "        warehouse.orders.split *",
        "exceptions swallowed before the end:",
        "  warehouse.stock.OutOfStock: south has 1, not 3  raised in warehouse.stock.Stock.reserve, caught in warehouse.orders.fulfil",
        "  pytest call › test_orders.test_one_parcel › warehouse.orders.fulfil  after 1 call",
        "  +   warehouse.orders.split",
        "appeared:",
        "  warehouse.orders.split  0 → 1 calls",
        "  warehouse.stock.Stock.reserve  1 → 3 calls",
    ]
    result.stdout.fnmatch_lines(said)
    for line in said:
        assert line.partition(" *")[0] in document
