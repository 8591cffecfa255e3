"""Beside other tools: a recorded program under coverage or pdb behaves as it does without a recorder. And its memory."""

import json
import sys

import pytest
from live import calls

SHOP = """
    import sys
    def price(n):
        if n > 2:
            return n * 2
        return n
    def rest(n):
        return -n
    total = 0
    for n in range(5):
        total += price(n)
    print(total)
"""


def test_coverage_sees_the_same_lines(bench):
    pytest.importorskip("coverage")
    program = bench.write(SHOP)
    reports = []
    for name, run in (("plain", bench.plain), ("recorded", bench.record)):
        words = [sys.executable, "-m", "coverage", "run", "--branch", f"--data-file={name}.data", program]
        assert run(*words).out == "17\n"
        bench.plain(sys.executable, "-m", "coverage", "json", "-q", f"--data-file={name}.data", "-o", f"{name}.json")
        files = json.loads((bench.path / f"{name}.json").read_text())["files"]
        (report,) = [found for path, found in files.items() if path.endswith("program.py")]
        reports.append(report)
    assert reports[0] == reports[1] and reports[0]["summary"]["missing_lines"] == 1
    (session,) = bench.root.glob("session_*")
    import atf

    with atf.open(session) as trace:
        assert calls(trace, "price") == 5


def test_a_debugger_session_is_the_same(bench):
    program = bench.write(SHOP)
    typed = "b price\nc\np n\nn\nw\nu\np total\nd\ns\nr\nc\np n\ncl 1\nc\nq\n"
    plain = bench.plain(sys.executable, "-m", "pdb", program, input=typed)
    ran = bench.record(sys.executable, "-m", "pdb", program, input=typed)
    assert "-> if n > 2:" in plain.out or "def price" in plain.out
    assert (ran.out, ran.err, ran.status) == (plain.out, plain.err, plain.status)


def test_trace_and_profile_functions_of_the_program_work(bench):
    source = """
        import sys
        seen = []
        def tracer(frame, event, argument):
            seen.append((event, frame.f_code.co_name, frame.f_lineno))
            return tracer
        def f(n):
            n += 1
            if n > 2: raise ValueError
            return n
        for install in (sys.settrace, sys.setprofile):
            install(tracer)
            for n in (1, 2):
                try: f(n)
                except ValueError: pass
            install(None)
        print(seen)
    """
    program = bench.write(source)
    plain = bench.plain(sys.executable, program)
    ran = bench.record(sys.executable, program)
    assert (ran.out, ran.err) == (plain.out, plain.err)


RSS = """
    import resource, sys
    def f(): pass
    def rss_kib(what):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(what))
    for _ in range(1_000_000): f()
    before = rss_kib("RssAnon")
    for _ in range(int(sys.argv[1])): f()
    print(rss_kib("RssAnon") - before, rss_kib("RssShmem"))
"""


def growth_kib(bench, count):
    bench.root = bench.path / f"traces-{count}"
    """Of the process's own memory; and its rings stay within what they may have: names and lanes, 8 MiB a thread, the spare ones."""
    ran = bench.python(RSS, str(count), options=["--json", "--policy", "block", "--burst-size", "32M", "--include", "__main__"])
    assert ran.summary["events"] > 2 * count and ran.summary["lost"] == {}
    own, shared = map(int, ran.out.split())
    assert shared < (8 + 32 + 16 + 4) << 10
    return own


def test_memory_of_the_program_does_not_grow_with_the_trace(bench):
    assert growth_kib(bench, 2_500_000) < 512


@pytest.mark.stress
def test_memory_does_not_grow_over_fifty_million_events(bench):
    """Forbidden: a recorded process that holds anything per event. 64 bytes each would be 3 GB."""
    assert growth_kib(bench, 25_000_000) < 512
