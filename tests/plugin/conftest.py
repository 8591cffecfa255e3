"""A suite of tests run in a process of its own with the plugin, and what it left behind."""

import os
import pathlib
import time

import pytest

from atf.trace import open_trace  # and with it numpy, which cannot be imported again after pytester has put sys.modules back

ROOT = pathlib.Path(__file__).parents[2]
SHOP = """
    def rate(country):
        return {"de": 19, "fr": 20}[country]

    def total(prices, country):
        return sum(price * (100 + rate(country)) // 100 for price in prices)

    def forgiving(country):
        try:
            return rate(country)
        except KeyError:
            return 0
"""


def wait_for(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class Suite:
    """``suite.run("--atf", plugins=["xdist"])`` runs pytest; ``kept()`` are the lines of its index."""

    def __init__(self, pytester, runtime):
        self.pytester, self.runtime = pytester, runtime

    def run(self, *args, plugins=()):
        named = [word for name in ("atf.pytest_plugin", *plugins) for word in ("-p", name)]
        return self.pytester.runpytest_subprocess(*named, *args)

    @property
    def results(self):
        return self.pytester.path / "test-results" / "atf"

    def kept(self):
        from atf.pytest_plugin import layout

        return [entry for run in layout.runs(str(self.results)) for entry in layout.read_index(run)]

    def only(self):
        (entry,) = self.kept()
        return entry

    def names(self, entry):
        """Qualified names of the functions called in a kept trace, in order."""
        with open_trace(entry["trace"]) as trace:
            return [event.function.qualified for event in trace.events(kind="call")]


@pytest.fixture
def suite(pytester, monkeypatch):
    runtime = pytester.path.parent / f"{pytester.path.name}-runtime"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in ("GITHUB_ACTIONS", "ATF_MODE", "ATF_DIR", "PYTEST_ADDOPTS", "CI"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(shop=SHOP)
    yield Suite(pytester, runtime)
    left = [path.name for path in runtime.glob("atf/*")]
    assert not left, f"rings left behind by {left}"
