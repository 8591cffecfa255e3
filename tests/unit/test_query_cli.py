"""`python -m atf.query` and `atf query`: answers without a server, and errors that say what to do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
from query_server import HOME

from atf.cli import main as atf
from atf.query.__main__ import main as query


@pytest.fixture(params=[query, lambda argv: atf(["query", *argv])], ids=["python -m atf.query", "atf query"])
def run(request, capfd):
    """run(...) → (status, standard output, standard error)."""

    def run(*argv):
        try:
            status = request.param([str(word) for word in argv])
        except SystemExit as stop:
            status = stop.code
        said = capfd.readouterr()
        return status, said.out, said.err

    return run


def test_one_question(run, root):
    status, out, err = run(root / doctraces.MONDAY, "trace.info")
    assert (status, err, json.loads(out)["eventCount"]) == (0, "", 150)
    assert run(root / doctraces.MONDAY)[1] == out
    assert json.loads(run(root / doctraces.MONDAY / "pid_411", "trace.info")[1])["threadCount"] == 1
    assert json.loads(run(root, "trace.info")[1])["traceId"] == doctraces.TUESDAY  # the newest
    assert "checksums" in json.loads(run(root / doctraces.MONDAY, "trace.info", '{"includeChecksums": true}')[1])
    assert json.loads(run(root / doctraces.MONDAY, "rpc.discover")[1])["openrpc"]


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["ROOT/nowhere"], 2, "is not there"),
        (["ROOT/session_20260105_180000", "trace.inf"], 1, "trace.info"),
        (["ROOT/session_20260105_180000", "trace.info", "{"], 2, "PARAMS is not JSON"),
        (["ROOT/session_20260105_180000", "trace.info", '{"x": 1}'], 1, "there is no such member"),
        (["--trace-root", "ROOT/nowhere"], 2, "atf record --out"),
        (["--trace-root", "ROOT/session_20260105_180000/pid_410/manifest.json"], 2, "is not a directory"),
        (["--port", "x"], 2, "--port"),
        (["--port", "70000", "--trace-root", "ROOT"], 2, "--port 0"),
        (["ROOT/session_20260105_180000", "trace.inf"], 1, "Method not found: trace.inf; did you mean trace.info"),
        (["ROOT/session_20260105_180000", "nothing"], 1, "rpc.discover"),
        (["ROOT/session_20260105_180000", "spans.path"], 1, "Invalid params: spanId: is required\n"),
        (["ROOT/session_20260105_180000", "events.get", '{"limt": 1}'], 1, "limt: there is no such member; known: traceId, "),
        (["ROOT/session_20260105_180000", "trace.compare", '{"other": "no"}'], 1, "Trace not found: no; traces.list names"),
        (["--timeout", "0"], 2, "--timeout: '0': must be more than 0"),
        (["--timeout", "soon"], 2, "'soon' is no number"),
        (["--timeout", "nan"], 2, "--timeout"),
        (["--rate", "-1"], 2, "--rate"),
        (["--max-answer", "5"], 2, "must be 1024 or more"),
        (["--max-connections", "0"], 2, "must be 1 or more"),
        (["--cache-size", "-1"], 2, "must be 0 or more"),
        (["--sql", "select 1"], 2, "give the TRACE"),
        (["--host", "nowhere.invalid", "--trace-root", "ROOT"], 2, "no address"),
        (["--access-log", "ROOT/no/file", "--trace-root", "ROOT", "--port", "0"], 2, "--access-log"),
        (["--nonsense"], 2, "--help"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(run, root, argv, status, said):
    got, out, err = run(*(word.replace("ROOT", str(root)) for word in argv))
    assert (got, out) == (status, "")
    assert said in err
    assert err.startswith("atf: ")
    assert err.count("\n") == 1


def test_no_trace_root(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = run()
    assert (status, "--trace-root DIR" in err) == (2, True)


def test_help_names_every_option(run):
    status, out, _ = run("--help")
    assert status == 0
    for option in ("--trace-root", "--uds", "--token-file", "--timeout", "--cache-ttl", "--max-answer", "--rate", "--access-log", "TRACE"):
        assert option in out


def test_a_reader_that_goes_away(root):
    command = f"{sys.executable} -m atf.query {root / doctraces.MONDAY} rpc.discover | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=HOME, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{", "")


def test_the_command_line_is_light():
    """`atf` builds the parsers of all commands at each start."""
    probe = "import sys; from atf.cli import make_parser; make_parser(); print([m for m in ('starlette', 'uvicorn', 'msgspec', 'numpy', 'asyncio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
