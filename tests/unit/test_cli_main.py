"""The command line as a whole: one line for an error, exit statuses, interrupts and closed pipes."""

import json
import subprocess
import sys

import pytest

import atf
from atf.cli import COMMANDS, doctor, main


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"atf {atf.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(command, capsys):
    assert main([command, "--help"]) == 0
    assert "--" in capsys.readouterr().out


WRONG = ("", "nonsense", "top --by colour", "spans --min-duration 5parsecs", "top --limit -1", "top", "info gone", "info a-file")


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_is_one_line_and_status_2(line, capsys, nowhere):
    (nowhere / "a-file").touch()
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("atf: ") and err.count("\n") == 1


def test_what_is_no_trace_is_one_line_and_status_1(capsys, nowhere):
    (nowhere / "session_20260101_120000/pid_7/thread_0").mkdir(parents=True)
    (nowhere / "session_20260101_120000/pid_7/thread_0/index.atf").write_bytes(b"not a trace" * 10)
    assert main(["info", "session_20260101_120000"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("atf: ") and err.count("\n") == 1


def test_an_interrupt_is_quiet(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "run", interrupted)
    assert main(["doctor"]) == 130
    assert capsys.readouterr() == ("", "")


def test_doctor_in_words_and_in_json(capsys):
    status = main(["doctor"])
    words = capsys.readouterr().out
    assert "compiled modules" in words and "clock" in words
    assert main(["doctor", "--json"]) == status
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is (status == 0)
    checks = {check["name"]: check for check in found["checks"]}
    assert "layout" in checks["compiled modules"]["found"]
    assert {check["status"] for check in found["checks"]} <= {"ok", "note", "warning", "fault"}


def test_python_m_atf():
    done = subprocess.run([sys.executable, "-m", "atf", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"atf {atf.__version__}\n")
