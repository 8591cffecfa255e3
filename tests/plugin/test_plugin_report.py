"""What a failure says, and what other tools read of it."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree

from atf.pytest_plugin import layout


def test_the_failure_report(suite):
    suite.pytester.makepyfile(
        test_it="""
        import shop, threading, pytest
        from atf import span
        over = threading.Event()
        @pytest.fixture
        def thread():
            waits = threading.Thread(target=idle, name="idle")
            waits.start()
            yield
            over.set()
            waits.join()
        def idle(): over.wait(10)
        def checkout(country):
            for _ in range(3): shop.forgiving("us")
            with span("pricing", cart=7):
                return shop.total([100, 200], country)
        def test_red(thread):
            checkout("it")
        """
    )
    result = suite.run("--atf", "--atf-level=args", "--junitxml=junit.xml", "-rf")
    entry = suite.only()
    where = os.path.relpath(entry["trace"], suite.pytester.path)
    result.stdout.fnmatch_lines(
        [
            "*- atf trace -*",
            "*fixture thread*",
            "> pytest call(nodeid='test_it.py::test_red')*raised KeyError: it*",
            ">   test_it.test_red*raised KeyError: it*",
            ">     test_it.checkout(country='it')*raised KeyError: it*",
            "        shop.forgiving(country='us') → 0  *",
            "          shop.rate(country='us')*raised KeyError: us*",
            ">       pricing(cart=7)*raised KeyError: it*",
            ">         shop.total(*country='it')*",
            ">             shop.rate(country='it')*",
            "exceptions swallowed before the end:",
            "*KeyError: us  raised in shop.rate, caught in shop.forgiving*×3",
            "threads:",
            "*idle (*",
            f"trace: {where}    open: atf tree {where}",
            "atf: 1 trace kept (* KB) in test-results/atf/*",
        ]
    )
    properties = ElementTree.parse(suite.pytester.path / "junit.xml").findall(".//testcase/properties/property")
    assert [(one.get("name"), one.get("value")) for one in properties] == [("atf_trace", where)]
    assert entry["error"].startswith("KeyError: 'it'")
    assert os.path.samefile(suite.results / "latest", os.path.dirname(entry["trace"]))


def test_options_of_the_report(suite):
    """--atf-tail=0 shows no calls; a long name is a short path; the newest traces stay."""
    suite.pytester.makepyfile(
        test_it=f"import shop, pytest\ndef test_{'x' * 300}(): shop.rate('it')\ndef test_{'x' * 299}y(): shop.rate('it')\n"
        "@pytest.mark.parametrize('n', ['a/b', 'a-b'])\ndef test_red(n): shop.rate('it')"
    )
    result = suite.run("--atf", "--atf-tail=0", "--atf-max-files=3")
    result.stdout.no_fnmatch_line("*pytest setup*")
    result.stdout.fnmatch_lines(["trace: test-results/*"])
    kept = suite.kept()
    assert [entry["nodeid"][-4:] for entry in kept] == ["xxxy", "a/b]", "a-b]"]
    names = [os.path.basename(entry["trace"]) for entry in kept]
    assert len(set(names)) == 3 and len(names[0]) <= 255 and all(re.fullmatch(r"[\w.=-]+", name) for name in names)
    suite.run("--atf", "--atf-max-files=1", "-k", "a-b")
    (entry,) = suite.kept()
    assert entry["nodeid"].endswith("[a-b]")
    assert len(layout.runs(str(suite.results))) == 1 and len(list(suite.results.glob("2*"))) == 1
    assert [line["nodeid"][-4:] for line in map(json.loads, (suite.results / "latest" / "index.jsonl").read_text().splitlines())] == ["a-b]"]


def test_last_green_against_this_red(suite, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    suite.pytester.makepyfile(test_it="import shop\ndef test_a():\n    shop.forgiving('de')\n    shop.total([1], 'de')")
    suite.run("--atf=on", "--junitxml=green.xml").assert_outcomes(passed=1)
    green = suite.only()
    (told,) = ElementTree.parse(suite.pytester.path / "green.xml").findall(".//testcase/properties/property")
    assert told.get("value") == os.path.relpath(green["trace"], suite.pytester.path)
    suite.pytester.makepyfile(test_it="import shop\ndef test_a():\n    shop.total([1], 'it')")
    result = suite.run("--atf")
    result.stdout.fnmatch_lines(["compared with test-results/atf/*/test_it.py-test_a, whose teardown is not here yet:", "*forgiving*", "trace: *", "::notice title=atf trace::test_it.py::test_a failed: KeyError*"])
    result = suite.run("--atf", "--atf-diff=off")
    result.stdout.no_fnmatch_line("compared with*")
    result = suite.run("--atf", "--atf-diff=nowhere")
    result.stdout.fnmatch_lines(["compared with nowhere, *", "no comparison: *nowhere*"])
    result = suite.run("--atf", f"--atf-diff={green['trace']}")
    result.stdout.fnmatch_lines(["compared with *", "*forgiving*"])


def test_overwritten_events_are_told(suite):
    suite.pytester.makepyfile(test_it="import shop\ndef test_a():\n    for _ in range(20000): shop.forgiving('de')\n    assert 0")
    result = suite.run("--atf", "--atf-ring=256K")
    assert suite.only()["overwritten"] > 0
    result.stdout.fnmatch_lines(["the first * events of this test were overwritten: a larger --atf-ring keeps them"])


def test_slugs():
    assert layout.slug("tests/test_a.py::TestB::test_c[1-x y]") == "tests-test_a.py-TestB-test_c-1-x-y"
    assert layout.slug("a.py::test_b", 2) == "a.py-test_b.attempt-2"
    longest = layout.slug("x" * 256)
    assert len(longest) == 209 and re.fullmatch(r"x{100}-[0-9a-f]{7}-x{100}", longest)
    assert layout.slug("x" * 255) == "x" * 255
    assert layout.slug("::") == "test"


def test_what_is_removed_is_what_an_index_lists(tmp_path):
    for run in ("20260101", "20260102"):
        made = layout.Run(str(tmp_path), run)
        made.open()
        for n in range(3):
            (tmp_path / run / f"t{n}").mkdir()
            made.add({"nodeid": f"t{n}", "path": f"t{n}", "outcome": "passed"})
        (tmp_path / run / "mine").touch()
    with open(tmp_path / "20260102" / "index.jsonl", "a") as file:
        file.write('{"nodeid": "cut')
    assert layout.prune(str(tmp_path), 4) == 2
    assert sorted(path.name for path in (tmp_path / "20260101").iterdir()) == ["index.jsonl", "mine", "t2"]
    assert layout.prune(str(tmp_path), 2) == 2
    assert sorted(path.name for path in (tmp_path / "20260101").iterdir()) == ["mine"]
    assert [entry["nodeid"] for entry in layout.read_index(str(tmp_path / "20260102"))] == ["t1", "t2"]
    assert layout.prune(str(tmp_path), 0) == 0
