"""Lint and types are tests. Under `make test-all` one Python checks them for all."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.environ.get("ATF_HOUSE") == "skip", reason="ATF_HOUSE=skip: another run checks lint and types")


def run(*command):
    assert importlib.util.find_spec(command[0]), f"{command[0]} is missing: `make venv` installs it"
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_ruff():
    run("ruff", "check", "--no-cache", ".")


def test_mypy():
    run("mypy")
