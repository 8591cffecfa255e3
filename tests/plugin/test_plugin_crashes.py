"""A worker that is killed, a test that hangs: the last calls are in the report although nobody was left to tell them."""

import os
import pathlib
import signal
import subprocess
import sys
import time

from conftest import wait_for


def test_a_worker_is_killed_in_the_middle_of_a_test(suite):
    suite.pytester.makepyfile(
        test_it="""
        import shop, os, signal
        def last_step(): os.kill(os.getpid(), signal.SIGKILL)
        def test_before(): shop.rate("de")
        def test_killed():
            for _ in range(3): shop.rate("fr")
            last_step()
        def test_after(): shop.rate("de")
        def test_later(): shop.rate("de")
        """
    )
    result = suite.run("-n1", "--atf", plugins=["xdist"])
    result.assert_outcomes(passed=3, failed=1)
    entry = suite.only()
    assert (entry["nodeid"], entry["outcome"], entry["worker"]) == ("test_it.py::test_killed", "crashed", "gw0")
    assert suite.names(entry)[-4:] == ["shop.rate"] * 3 + ["test_it.last_step"]
    result.stdout.fnmatch_lines(
        [
            "worker 'gw0' crashed while running 'test_it.py::test_killed'",
            "*- atf trace -*",
            "*pytest call(nodeid='test_it.py::test_killed')*open*",
            "*shop.rate ×3*",
            "*test_it.last_step*open*",
            "  MainThread (*): in pytest call › test_it.test_killed › test_it.last_step *",
            "trace: test-results/atf/*/gw0/test_it.py-test_killed *",
        ]
    )
    section = result.stdout.str().partition("atf trace -")[2]
    assert "test_before" not in section.partition("trace: ")[0]


HANGS = """
    import shop, threading
    def waits(): threading.Event().wait(20)
    def test_hangs():
        shop.rate("de")
        waits()
"""
SAID = ["*pytest call(nodeid='test_it.py::test_hangs')*open*", "*test_it.waits*open*", "  MainThread (*): in pytest call › test_it.test_hangs › test_it.waits *"]


def test_timeouts(suite):
    suite.pytester.makepyfile(test_it=HANGS)
    by_thread = ["--atf", "--timeout=0.3", "--timeout-method=thread"]
    result = suite.run(*by_thread, plugins=["pytest_timeout"])
    result.stdout.fnmatch_lines(["*atf: test_it.py::test_hangs: no end within 0.3 s; its last calls*", *SAID, "*+ Timeout +*"])
    assert suite.only()["error"] == "no end within 0.3 s"
    result = suite.run(*by_thread, "-n1", "--atf-dir=workers", plugins=["pytest_timeout", "xdist"])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["worker 'gw0' crashed while running*", *SAID, "trace: workers/*"])
    result = suite.run("--atf", "--timeout=0.3", "--timeout-method=signal", "--atf-dir=signal", plugins=["pytest_timeout"])
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- atf trace -*", ">*test_it.waits*raised Failed: Timeout*"])


def test_faulthandler(suite):
    suite.pytester.makepyfile(
        test_it="""
        import time
        def waits(watch):
            while not watch.told: time.sleep(0.01)
        def test_hangs(request):
            waits(request.config.pluginmanager.get_plugin("atf-hangs")._watch)
            time.sleep(0.6)  # faulthandler's own words come now
        """
    )
    result = suite.run("--atf", "-o", "faulthandler_timeout=2")
    result.assert_outcomes(passed=1)
    result.stderr.fnmatch_lines(["*atf: test_it.py::test_hangs: no end within 2 s*", *SAID])
    result.stderr.fnmatch_lines(["Timeout (0:00:02*"])
    assert not suite.kept()


def test_an_interrupted_controller_asks_its_workers(suite):
    """Ctrl-C, because a test hangs; the worker is stopped, as one that waits in C for ever: it cannot help."""
    suite.pytester.makepyfile(
        test_it=HANGS.replace("threading.Event().wait(20)", "open('here', 'w').write(str(os.getpid())), os.kill(os.getpid(), signal.SIGSTOP)").replace(
            "import shop", "import os, signal, shop"
        )
    )
    started = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "atf.pytest_plugin", "-p", "xdist", "-n1", "--atf"],
        stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=suite.pytester.path,
    )  # fmt: skip
    here = suite.pytester.path / "here"
    wait_for(lambda: here.exists() and here.read_text(), "the test hangs")
    worker = int(here.read_text())
    wait_for(lambda: pathlib.Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
    time.sleep(0.05)
    started.send_signal(signal.SIGINT)
    index = suite.results / "latest" / "index.jsonl"
    wait_for(index.exists, "its last calls are told")
    os.kill(worker, signal.SIGCONT)
    said, _ = started.communicate(timeout=60)
    assert "atf: the last calls of worker gw0" in said and "test_it.waits" in said and "no event for" in said, said
