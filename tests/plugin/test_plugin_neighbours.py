"""Other plugins and kinds of tests: nothing changes but that failures leave traces."""

import pytest

from atf.trace import open_trace

FOUR = """
    import shop, pytest
    @pytest.mark.xdist_group("one")
    class TestFour:
        def test_a(self): shop.rate("de")
        def test_b(self): shop.rate("it")
        def test_c(self): shop.rate("fr")
    def test_d(): shop.rate("us")
"""


@pytest.mark.parametrize(
    "dist", ["load", *(pytest.param(dist, marks=pytest.mark.stress) for dist in ("each", "loadscope", "loadfile", "loadgroup", "worksteal"))]
)
def test_xdist(suite, dist):
    suite.pytester.makepyfile(test_it=FOUR)
    times = 2 if dist == "each" else 1
    result = suite.run("-n2", f"--dist={dist}", "--atf", plugins=["xdist"])
    result.assert_outcomes(passed=2 * times, failed=2 * times)
    kept = suite.kept()
    assert sorted(entry["nodeid"].rpartition("::")[2].partition("@")[0] for entry in kept) == sorted(["test_b", "test_d"] * times)
    assert {entry["path"].partition("/")[0] for entry in kept} == {entry["worker"] for entry in kept} <= {"gw0", "gw1"}
    assert all("shop.rate" in suite.names(entry) for entry in kept)
    result.stdout.fnmatch_lines(["*shop.rate*raised KeyError*", f"trace: {suite.results.relative_to(suite.pytester.path)}/*/gw*", f"atf: {2 * times} traces kept*"])
    assert len(list(suite.results.glob("2*"))) == 1


def test_xdist_without_workers(suite):
    suite.pytester.makepyfile(test_it=FOUR)
    suite.run("-n0", "--atf", "--cov=shop", plugins=["xdist", "pytest_cov"]).assert_outcomes(passed=2, failed=2)
    assert sorted(entry["path"] for entry in suite.kept()) == ["test_it.py-TestFour-test_b", "test_it.py-test_d"]


def test_kinds_of_tests(suite):
    """unittest, doctest, subtests; and coverage counts as ever."""
    suite.pytester.makepyfile(
        test_it="""
        import shop, unittest
        class Old(unittest.TestCase):
            def setUp(self): shop.rate("de")
            def test_green(self): shop.rate("fr")
            def test_red(self): shop.rate("it")
            @unittest.expectedFailure
            def test_expected(self): shop.rate("it")
            @unittest.skip("why not")
            def test_skipped(self): pass
            def test_parts(self):
                for country in ("de", "xx"):
                    with self.subTest(country=country):
                        shop.rate(country)
        """
    )
    suite.pytester.makepyfile(documented='def f():\n    """\n    >>> import shop\n    >>> shop.total([100], "de")\n    119\n    >>> shop.rate("it")\n    0\n    """')
    result = suite.run("--atf", "--doctest-modules", "--cov=shop", "--cov-report=term-missing", plugins=["pytest_cov"])
    kept = {entry["nodeid"].partition("::")[2]: entry for entry in suite.kept()}
    assert {"Old::test_red", "documented.f"} <= kept.keys() <= {"Old::test_red", "documented.f", "Old::test_parts"}
    assert suite.names(kept["Old::test_red"]).count("shop.rate") == 2
    assert {"shop.total", "shop.rate"} <= set(suite.names(kept["documented.f"]))
    result.stdout.fnmatch_lines([">*pytest call(nodeid='test_it.py::Old::test_red')*raised KeyError: it*", ">*test_it.Old.test_red*", ">*shop.rate*"])
    without = suite.run("--doctest-modules", "--cov=shop", "--cov-report=term-missing", plugins=["pytest_cov"])
    assert result.parseoutcomes() == without.parseoutcomes()
    measured = [next(line for line in one.outlines if line.startswith("shop.py ")) for one in (result, without)]
    assert measured[0] == measured[1] and "%" in measured[0]


@pytest.mark.parametrize("plugin", ["pytest_asyncio.plugin", "anyio.pytest_plugin"])
def test_async(suite, plugin):
    marker = {"pytest_asyncio.plugin": "asyncio", "anyio.pytest_plugin": "anyio"}[plugin]
    fixture = {"pytest_asyncio.plugin": "import pytest_asyncio\nasync_fixture = pytest_asyncio.fixture", "anyio.pytest_plugin": "async_fixture = pytest.fixture"}[plugin]
    suite.pytester.makepyfile(
        test_it=f"""
import asyncio, pytest, shop
{fixture}
pytestmark = pytest.mark.{marker}
@pytest.fixture
def anyio_backend(): return "asyncio"
@async_fixture
async def cart(anyio_backend):
    await asyncio.sleep(0)
    yield shop.rate("de")
    shop.rate("fr")
async def pay(country):
    await asyncio.sleep(0)
    return shop.rate(country)
async def test_green(cart, trace):
    with trace.window() as w:
        await asyncio.gather(pay("de"), pay("fr"))
    assert w.calls("shop.rate") == 2
    assert trace.fixture("cart").calls("shop.rate") == 1
async def test_red(cart):
    await pay("it")
"""
    )
    result = suite.run("--atf", plugins=[plugin])
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*fixture cart*", ">*test_it.test_red*raised KeyError: it*", ">*test_it.pay*raised KeyError: it*", ">*shop.rate*raised KeyError: it*"])
    with open_trace(suite.only()["trace"]) as trace:
        assert trace.calls("shop.rate").seen  # of this test alone: setup, call and teardown
        assert len(trace.calls("shop.rate").seen) == 3


def test_forked(suite):
    """Each test is recorded in its own process; one that dies is told by what its rings hold."""
    suite.pytester.makepyfile(
        test_it="""
        import shop, os, signal
        def last_step(): os.kill(os.getpid(), signal.SIGKILL)
        def test_green(): shop.rate("de")
        def test_red(): shop.rate("it")
        def test_dies():
            shop.rate("fr")
            last_step()
        def test_after(request):
            shop.rate("de")
            if request.config.option.atf_mode:
                assert request.getfixturevalue("trace").calls("shop.rate") == 1
        """
    )
    result = suite.run("--forked", "--atf", plugins=["pytest_forked"])
    without = suite.run("--forked", plugins=["pytest_forked"])
    assert result.parseoutcomes() == without.parseoutcomes()  # with some releases of pytest, pytest-forked fails what passes
    kept = {entry["nodeid"].partition("::")[2]: entry for entry in suite.kept()}
    assert {name: entry["outcome"] for name, entry in kept.items()} == {"test_red": "failed", "test_dies": "crashed"}
    assert suite.names(kept["test_dies"])[-2:] == ["shop.rate", "test_it.last_step"]
    assert "shop.rate" in suite.names(kept["test_red"]) and "test_it.test_dies" not in suite.names(kept["test_red"])
    result.stdout.fnmatch_lines(["*CRASHED with signal 9*", "*- atf trace -*", "*test_it.last_step*open*"])
