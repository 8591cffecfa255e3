"""Every compiled module has a stub, and the stub says what the module has."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MODULES = sorted(path.stem for path in (ROOT / "_core").glob("*.pyx"))


@pytest.mark.parametrize("module", MODULES)
def test_has_a_stub(module):
    assert (ROOT / "_core" / f"{module}.pyi").exists()


@pytest.mark.skipif(os.environ.get("ATF_HOUSE") == "skip", reason="ATF_HOUSE=skip: another run checks the stubs")
def test_stubs_match():
    names = [f"atf._core.{module}" for module in MODULES]
    command = [sys.executable, "-m", "mypy.stubtest", "--mypy-config-file", "pyproject.toml", "--ignore-disjoint-bases", "--concise", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(ROOT)})
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
