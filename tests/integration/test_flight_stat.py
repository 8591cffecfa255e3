"""What a running recording counts, asked from outside; and the sum that must hold: written + dropped + filtered + held = produced."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest
from accounts import check_manifests, check_row
from live import produced, wait_for

from atf import metrics, runtime

ASKED = """
    import atf, sys, threading
    def turn(n): return n
    def work():
        for n in range(2000):
            with atf.span("work", n=n): turn(n)
    one = threading.Thread(target=work, name="worker")
    one.start(); one.join()
    print("ready", flush=True); sys.stdin.readline()
    work()
"""


def stat(bench, *words):
    ran = bench.atf("stat", *words)
    assert ran.status == 0, ran.err
    return ran.out


def asked(bench, enough=1):
    """The numbers as soon as so many events were seen."""
    return wait_for(lambda: (found := json.loads(stat(bench, "--json")))["produced"] >= enough and found)


def program_of(bench, *options):
    program = bench.begin(ASKED, options=["--quiet", *options])
    assert program.stdout.readline() == "ready\n"
    return program


def test_the_numbers_of_a_recording_that_runs(bench):
    program = program_of(bench)
    # The one thread's events are seen when its rings are full, the other's with the next flush: a moment between the two is no fault.
    settled = {"MainThread": False, "worker": True}
    found = wait_for(lambda: (now := asked(bench, 8000)) and {row["name"]: row["finished"] for row in now["threads"]} == settled and now)
    check_row(found)
    assert found["dropped"] == found["filtered"] == found["held"] == 0 and found["written"] == found["produced"]
    rows = {row["name"]: check_row(row) for row in found["threads"]}
    assert set(rows) == {"MainThread", "worker"} and rows["worker"]["finished"] and rows["worker"]["produced"] >= 8000
    assert found["bytes"] >= 32 * found["written"] and found["cycles"] > 0 and found["write_ns"] > 0 and found["writes"] > 0
    assert found["lag_most_ns"] >= found["lag_ns"] and 0 < found["lag_most_ns"] < 60e9
    table = stat(bench, "--once")
    assert re.search(r"[\d,]+ written, 0 dropped, 0 filtered, 0 held", table) and "worker" in table and "MainThread" in table
    assert "worker" not in stat(bench, "--once", "--limit", "0").split("threads\n")[-1]
    program.communicate("\n", timeout=30)
    (session,) = bench.root.glob("session_*")
    (manifest,) = session.glob("pid_*/manifest.json")
    said = json.loads(manifest.read_text())
    assert said["metrics"]["produced"] == sum(row["metrics"]["produced"] for row in said["threads"]) >= 16000
    ran = bench.atf("stat")
    assert ran.status != 0 and "running" in ran.err


@pytest.mark.parametrize("options", [("--trigger", "symbol=nowhere"), ("--flight", "20s", "--post-roll-sec", "0")], ids=["details", "windows"])
def test_with_windows(bench, options):
    program = program_of(bench, "--level", "args", *options)
    found = check_row(asked(bench, 8000))
    assert found["dropped"] == 0
    assert found["details_held"] + found["details_filtered"] + found["details_dropped"] == found["details_produced"] >= 2000
    if options[0] == "--flight":
        assert found["held"] == found["produced"] and not found["written"]
        assert bench.atf("snapshot").status == 0
        after = check_row(wait_for(lambda: (now := asked(bench))["written"] and now))
        assert after["details"] >= 2000 and after["details_dropped"] == 0
    program.communicate("\n", timeout=30)
    assert check_manifests(bench.root) == 2
    (manifest,) = bench.root.glob("session_*/pid_*/manifest.json")
    said = check_row(json.loads(manifest.read_text())["metrics"])
    assert said["held"] == said["details_held"] == 0 and said["details_filtered"] > 0
    assert (said["filtered"] > 0) == (options[0] == "--flight")


def test_a_drain_that_stands_still(bench):
    """FORBIDDEN: a ring that was taken back and is not counted. The recorder is stopped while the program writes more than fits."""
    source = """
        import sys
        def turn(): pass
        print("ready", flush=True); sys.stdin.readline()
        for _ in range(60_000): turn()
        print("done", flush=True); sys.stdin.readline()
    """
    program = bench.begin(source, options=["--json", "--ring-size", "128K", "--burst-size", "0"])
    assert program.stdout.readline() == "ready\n"
    asked(bench)
    (session,) = (path for path in bench.runtime.glob("atf/*") if path.is_dir())
    recorder = int(runtime.read(str(session / "config"))["recorder_pid"])
    os.kill(recorder, signal.SIGSTOP)
    try:
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "done\n"
    finally:
        os.kill(recorder, signal.SIGCONT)
    found = check_row(asked(bench, 120_000))
    (row,) = (row for row in found["threads"] if row["name"] == "MainThread")
    assert row["dropped_by"].keys() == {"exhausted"} and row["exhausted"] > 0 and row["most_full"] >= 2
    _, err = program.communicate("\n", timeout=30)
    (session,) = bench.root.glob("session_*")
    import atf

    with atf.open(session) as trace:
        (manifest,) = session.glob("pid_*/manifest.json")
        assert json.loads(manifest.read_text())["metrics"]["produced"] == produced(trace) >= 120_000
        assert trace.info["lost"] == json.loads(err.splitlines()[-1])["lost"]


@pytest.mark.parametrize("options", [(), ("--flight", "20s")], ids=["all", "windows"])
def test_a_killed_program(bench, options):
    program = program_of(bench, *options)
    os.kill(bench.program_pid(), signal.SIGKILL)
    program.communicate("", timeout=30)
    assert check_manifests(bench.root) == 2


@pytest.fixture
def tiny_disk(bench):
    bench.root.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(bench.root)], capture_output=True).returncode:
        pytest.skip("mounting a file system that gets full is not permitted here")
    yield
    subprocess.run(["umount", "-l", str(bench.root)], check=True)


@pytest.mark.parametrize("options", [(), ("--level", "args", "--trigger", "symbol=turn"), ("--level", "args", "--flight", "60s")], ids=["all", "details", "windows"])
def test_a_full_disk(bench, tiny_disk, options):
    source = """
        import atf, sys
        def turn(n, text): return n
        print("ready", flush=True); sys.stdin.readline()
        for n in range(20_000): turn(n, "x" * 50)
        atf.mark("now")
        print("full", flush=True); sys.stdin.readline()
    """
    program = bench.begin(source, options=["--quiet", *options])
    assert program.stdout.readline() == "ready\n"
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "full\n"
    lost = ("details_dropped",) if "--trigger" in options else ("dropped",)
    found = wait_for(lambda: any((now := asked(bench, 40_000))[name] for name in (*lost, "dropped")) and now)
    check_row(found)
    assert all(metrics.unaccounted(row) == (0, 0) for row in found["threads"]) and found["disk_error"]
    _, err = program.communicate("\n", timeout=30)
    assert "No space left" in err


def test_the_query_server_tells_it(bench):
    program = program_of(bench)
    found = asked(bench, 8000)
    trace = os.path.basename(found["path"])
    server = subprocess.Popen(
        [sys.executable, "-m", "atf.query", "--trace-root", str(bench.root), "--port", "0"], cwd=bench.path, env=bench.environment, stdout=subprocess.PIPE, text=True
    )
    try:
        address = server.stdout.readline().strip()
        text = fetch(address.replace("/rpc", "/metrics"))
        for what in ("written", "dropped", "filtered"):
            assert f'atf_recording_events_total{{trace="{trace}",what="{what}"}} {found[what]}\n' in text
        assert len(re.findall(rf'^atf_recording_\w+{{trace="{trace}".*}} [\d.e+-]+$', text, re.M)) == 12
        call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "trace.info", "params": {"traceId": trace}}).encode()
        info = json.loads(fetch(address, call))["result"]
        assert info["growing"] and info["metrics"]["written"] == found["written"] == sum(one["metrics"]["written"] for one in info["threads"])
        program.communicate("\n", timeout=30)
        assert "atf_recording" not in fetch(address.replace("/rpc", "/metrics"))
        info = json.loads(fetch(address, call))["result"]
        assert not info["growing"] and info["metrics"]["written"] == sum(one["metrics"]["written"] for one in info["threads"]) == info["eventCount"] >= 16000
        assert info["metrics"]["lagMostNs"] > 0 and info["metrics"]["droppedBy"] == {}
    finally:
        server.terminate()
        server.communicate(timeout=20)


def fetch(address, body=None):
    with urllib.request.urlopen(urllib.request.Request(address, body, {"Content-Type": "application/json"}), timeout=20) as answer:
        return answer.read().decode()


def test_lines_in_a_log(bench):
    source = "import time, sys\ndef turn(): time.sleep(0.001)\nend = time.monotonic() + float(sys.argv[1])\nwhile time.monotonic() < end: turn()"
    log = bench.path / "metrics.log"
    ran = bench.python(source, "1.2", options=["--quiet", "--metrics-interval", "250ms", "--metrics-format", "json", "--metrics-file", str(log)])
    assert (ran.status, ran.err) == (0, "")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) >= 2 and [one["produced"] for one in lines] == sorted(one["produced"] for one in lines)
    assert all(check_row(one) and all(map(check_row, one["threads"])) for one in lines)
    assert lines[-1]["produced"] == lines[-1]["written"] > 0 and all(row["finished"] for row in lines[-1]["threads"])
    ran = bench.python(source, "0", options=["--metrics-interval", "1s"])
    assert re.match(r"atf: [\d.]+ s: produced ([\d,]+), written \1, dropped 0, filtered 0; ", ran.err), ran.err
    for options, why in ((["--metrics-interval", "1"], "at least 250ms"), (["--metrics-file", "x"], "needs --metrics-interval")):
        ran = bench.python(source, "0", options=options)
        assert ran.status == 2 and why in ran.err
    ran = bench.python(source, "0", options=["--metrics-interval", "1s", "--metrics-file", str(bench.path / "no" / "where")])
    assert ran.status == 2 and "No such file" in ran.err


def test_a_recording_from_inside_counts_too(bench):
    source = """
        import atf, atf.errors, json, sys
        def turn(): pass
        with atf.record(sys.argv[1]) as made:
            for _ in range(1000): turn()
            while made.metrics()["written"] < 1000: turn()
            print(json.dumps(made.metrics()), flush=True)
        try: made.metrics()
        except atf.errors.SessionError as error: print(error)
    """
    ran = bench.plain(sys.executable, bench.write(source), str(bench.root))
    first, second = ran.out.splitlines()
    assert all(map(check_row, json.loads(first)["threads"])) and "not running" in second
    assert check_manifests(bench.root) >= 1
