"""Which traces stay, mode by mode, and how a mode is asked for."""

import json

import pytest

from atf.pytest_plugin.modes import MODES, keeps

TESTS = """
    import pytest, shop
    tries = []
    @pytest.fixture
    def broken():
        shop.rate("xx")
    @pytest.fixture
    def leaves():
        yield
        shop.rate("yy")
    def test_green(): shop.rate("de")
    def test_red(): shop.rate("it")
    def test_skipped(): pytest.skip("not today")
    @pytest.mark.xfail(strict=False)
    def test_expected(): shop.rate("it")
    @pytest.mark.xfail(strict=True)
    def test_surprise(): shop.rate("de")
    @pytest.mark.xfail(strict=False)
    def test_lucky(): shop.rate("de")
    def test_setup(broken): pass
    def test_teardown(leaves): pass
    @pytest.mark.flaky(reruns=2)
    def test_flaky():
        tries.append(1)
        assert len(tries) == 3
"""
FAILED = {("test_red", 1), ("test_surprise", 1), ("test_setup", 1), ("test_teardown", 1), ("test_flaky", 1), ("test_flaky", 2)}
ALL = FAILED | {("test_green", 1), ("test_skipped", 1), ("test_expected", 1), ("test_lucky", 1), ("test_flaky", 3)}
KEPT = {
    "off": set(),
    "on": ALL,
    "retain-on-failure": FAILED,
    "retain-all-failures": FAILED | {("test_expected", 1)},
    "on-first-retry": {("test_flaky", 2)},
    "retain-on-failure-and-retries": FAILED | {("test_flaky", 3)},
}


def test_every_mode_is_tried():
    assert KEPT.keys() == MODES.keys()
    assert not keeps("off", "failed", 2)


def test_what_stays(suite):
    """One module a mode, chosen by markers, without the flag; and a mode that is asked for by the flag."""
    names = {f"test_{mode.replace('-', '_')}": mode for mode in KEPT}
    suite.pytester.makepyfile(**{name: f"{TESTS}\n    pytestmark = pytest.mark.atf(mode='{mode}')" for name, mode in names.items()})
    suite.pytester.makepyfile(test_by_flag=TESTS)
    result = suite.run("--atf=retain-on-failure", plugins=["rerunfailures"])
    result.assert_outcomes(passed=3 * 7, failed=2 * 7, errors=2 * 7, skipped=7, xfailed=7, xpassed=7)
    kept = {name: set() for name in [*names, "test_by_flag"]}
    for entry in suite.kept():
        module, _, test = entry["nodeid"].partition(".py::")
        kept[module].add((test, entry["attempt"]))
        if (test, entry["attempt"]) in FAILED:
            assert entry["outcome"] == "failed"
        if test == "test_red":
            assert "shop.rate" in suite.names(entry)
    assert kept.pop("test_by_flag") == FAILED
    assert {names[name]: found for name, found in kept.items()} == KEPT


def test_green_leaves_nothing(suite):
    suite.pytester.makepyfile("import shop\ndef test_a(): shop.rate('de')\ndef test_b(): shop.rate('fr')")
    result = suite.run("--atf")
    result.assert_outcomes(passed=2)
    assert not suite.results.parent.exists()
    result.stdout.no_fnmatch_line("*atf:*")


def test_who_asks(suite):
    """The command line before the environment before the ini file; a path after the bare flag is a path."""
    pytester = suite.pytester
    pytester.makepyfile("def test_a(): pass")
    pytester.makeini("[pytest]\natf_mode = on\natf_dir = from-ini")
    suite.run()
    assert (pytester.path / "from-ini" / "latest").is_dir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATF_DIR", "from-environment")
        suite.run()
        assert (pytester.path / "from-environment" / "latest").is_dir()
        result = suite.run("--atf-dir=from-options", "--atf", "test_who_asks.py")
        result.assert_outcomes(passed=1)
        assert not (pytester.path / "from-options").exists()  # bare --atf keeps failures only
        suite.run("--atf-dir=from-options", "--atf=on", "test_who_asks.py")
        (line,) = (pytester.path / "from-options" / "latest" / "index.jsonl").read_text().splitlines()
        assert json.loads(line)["nodeid"] == "test_who_asks.py::test_a"
    suite.run("--no-atf", "--atf-dir=from-nobody")
    assert not (pytester.path / "from-nobody").exists()


def test_an_interrupt_counts_as_a_failure(suite):
    suite.pytester.makepyfile("import shop\ndef test_a():\n    shop.rate('de')\n    raise KeyboardInterrupt")
    suite.run("--atf")
    entry = suite.only()
    assert (entry["outcome"], entry["error"]) == ("failed", "interrupted")
    assert "shop.rate" in suite.names(entry)
