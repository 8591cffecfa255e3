"""Forbidden: a test of somebody else's suite that ends differently because it was recorded."""

import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.stress


@pytest.mark.parametrize("project", ["packaging", "more-itertools", "click", "attrs"])
def test_a_public_suite_ends_alike(project):
    reached = subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", "/dev/null", "six==0.0"], capture_output=True, text=True)
    if "No matching distribution" not in reached.stderr or "from versions: none" in reached.stderr:
        pytest.skip("no package index can be reached")
    done = subprocess.run([sys.executable, pathlib.Path(__file__).with_name("public_suites.py"), project], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
