"""Tests, phases and fixtures have windows of their own; markers and fixtures work without the flag."""

import json

from atf.trace import open_trace


def note_of(entry):
    with open(f"{entry['trace']}/manifest.json", encoding="utf-8") as file:
        return json.load(file)["test"]


def took(part):
    return part["end_ns"] - part["start_ns"]


def test_a_session_fixture_is_not_charged_to_the_first_test(suite):
    suite.pytester.makepyfile(
        test_it="""
        import pytest, shop
        @pytest.fixture(scope="session")
        def base():
            yield
        @pytest.fixture(scope="module")
        def shelf(base):
            yield
        @pytest.fixture
        def cart(shelf):
            shop.rate("de")
            yield
            shop.rate("fr")
        @pytest.mark.parametrize("n", [1, 2])
        def test_it(cart, n):
            shop.total([100], "de")
        """
    )
    suite.run("--atf=on").assert_outcomes(passed=2)
    first, second = suite.kept()
    one, other = note_of(first), note_of(second)
    begun = {fixture["name"]: fixture for fixture in one["fixtures"]}
    ended = {fixture["name"]: fixture for fixture in other["fixtures"]}
    assert {name: fixture["scope"] for name, fixture in begun.items()} == {"base": "session", "shelf": "module", "cart": "function"}
    assert list(ended) == ["cart", "shelf", "base"]  # as this test met them: the others end with it
    assert begun["base"]["teardown"] is None and ended["base"]["setup"]["end_ns"] < other["phases"]["setup"]["start_ns"]
    for entry, told, phase, fixtures in ((first, one, "setup", begun), (second, other, "teardown", ended)):
        shared_ns = took(fixtures["base"][phase]) + took(fixtures["shelf"][phase])
        assert told["phases"][phase]["shared_ns"] == shared_ns > 0
        assert entry[f"{phase}_ns"] == took(told["phases"][phase]) - shared_ns > 0
    for entry, told, phase in ((first, one, "call"), (first, one, "teardown"), (second, other, "setup")):
        assert told["phases"][phase]["shared_ns"] == 0 and entry[f"{phase}_ns"] == took(told["phases"][phase]) > 0
    with open_trace(first["trace"]) as trace:
        phases = {node.span.name: [child.span.function.qualified for child in node.children] for node in trace.tree()}
        assert phases["pytest setup"] == ["fixture base", "fixture shelf", "fixture cart"]
        assert phases["pytest call"] == ["test_it.test_it"]
        assert [event.function.name for event in trace.events(kind="instant")] == ["fixture cart teardown"]
    with open_trace(second["trace"]) as trace:
        assert [event.function.name for event in trace.events(kind="instant")] == [f"fixture {name} teardown" for name in ended]


def test_the_fixtures_without_the_flag(suite):
    suite.pytester.makepyfile(
        test_it="""
        import pytest, shop, threading
        from atf import TraceIncomplete

        @pytest.fixture
        def prepared():
            shop.forgiving("it")

        def test_windows(trace, prepared, atf):
            assert trace.calls("shop.rate") == 0
            with trace.window() as first:
                shop.total([1, 2], "de")
                assert first.calls("shop.rate") == 2
            with trace.window() as second:
                with atf.span("checkout", cart=7):
                    shop.total([1], "fr")
                atf.decision("retry", reason="timeout")
            assert first.calls("shop.rate") == 2
            assert second.calls("shop.rate", under="shop.total") == 1
            assert second.span("checkout")
            assert second.decision("retry", reason="timeout") == 1
            assert trace.calls("shop.rate") == 3
            assert trace.phase("setup").calls("shop.rate") == 1
            assert trace.fixture("prepared").raised(KeyError).swallowed == 1
            trace.never("shop.forgiving")
            with pytest.raises(pytest.UsageError, match="'other' was not set up in this test; set up were .*prepared"):
                trace.fixture("other")

        def test_threads(trace):
            worker = threading.Thread(target=shop.rate, args=["de"])
            worker.start()
            worker.join()
            assert trace.calls("shop.rate") == 1

        def test_not_recorded(): shop.rate("de")

        @pytest.mark.atf(include="shop", level="args")
        def test_marked(trace):
            shop.rate("de")
            assert trace.call("shop.rate").args == {"country": "de"}
            with pytest.raises(TraceIncomplete):
                trace.calls("json.dumps") == 0

        @pytest.mark.atf
        def test_red(atf_session):
            shop.rate("de")
            assert atf_session.mode == "off" and atf_session.kept == [] and not atf_session.fixtures
            assert trace_of_nobody

        def test_shown(trace):
            shop.rate("de")
            assert trace.calls("shop.rate") == 3

        @pytest.mark.atf(max_calls=4)
        @pytest.mark.parametrize("n", [1, 2])
        def test_frugal(n): shop.total([1] * n, "de")

        @pytest.mark.atf(max_duration=0.001)
        def test_quick(): threading.Event().wait(0.01)

        @pytest.mark.atf(mode="off")
        def test_off(trace): pass
        """
    )
    result = suite.run()
    result.assert_outcomes(passed=5, failed=4, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*the fixture trace needs a recording*",
            "*assert 1 call of 'shop.rate' == 3*",
            "*the call phase made * calls; @pytest.mark.atf(max_calls=4) allows no more*",
            "*the call phase took 0.0* s; @pytest.mark.atf(max_duration=0.001) allows no more*",
        ]
    )
    kept = {entry["nodeid"].partition("::")[2] for entry in suite.kept()}
    assert kept == {"test_red", "test_shown", "test_frugal[2]", "test_quick"}


def test_own_fixtures_of_these_names_win(suite):
    suite.pytester.makepyfile("import pytest\n@pytest.fixture\ndef trace(): return 7\ndef test_a(trace): assert trace == 7")
    suite.run("--atf=on", "--no-atf").assert_outcomes(passed=1)
    suite.run().assert_outcomes(passed=1)
    assert not suite.kept()


def test_without_a_recording_a_test_of_traces_is_skipped(suite):
    suite.pytester.makepyfile("def test_a(trace): pass\ndef test_b(atf): atf.event('x')")
    suite.run("--no-atf").assert_outcomes(passed=1, skipped=1)


def test_baselines(suite):
    test = "import shop, pytest\n@pytest.mark.atf(include='shop')\ndef test_a(trace):\n    shop.total([1] * {n}, 'de')\n    trace.same_shape_as('total.shape')"
    suite.pytester.makepyfile(test_a=test.format(n=1))
    suite.run().assert_outcomes(failed=1)
    suite.run("--atf-update").assert_outcomes(passed=1)
    assert (suite.pytester.path / "total.shape").is_file()
    suite.run().assert_outcomes(passed=1)
    suite.pytester.makepyfile(test_a=test.format(n=1).replace("shop.total([1]", "shop.forgiving('de'); shop.total([1]"))
    result = suite.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*total.shape*"])


def test_failures_that_are_remembered_and_threads_that_stay(suite):
    suite.pytester.makepyfile(
        test_it="""
        import pytest, shop, threading
        over = threading.Event()
        @pytest.fixture(scope="session")
        def base(): shop.rate("xx")
        def test_first(base): pass
        def test_second(base): pass
        def test_leaks():
            threading.Thread(target=over.wait, name="stays").start()
            assert 0
        def test_last():
            over.set()
            assert 0
        """
    )
    result = suite.run("--atf")
    first, second, leaks, last = suite.kept()
    assert "shop.rate" in suite.names(first) and "shop.rate" not in suite.names(second)
    result.stdout.fnmatch_lines(["the fixture base (session) failed in the setup of test_it.py::test_first: its calls are in that trace"])
    assert result.stdout.str().count("its calls are in that trace") == 1
    assert [note_of(entry)["threads_left"] for entry in (first, leaks, last)] == [[], ["stays"], []]
