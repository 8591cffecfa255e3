"""The build: kinds never mix, a changed header is noticed, and a performance hint of Cython is an error."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(bool(os.environ.get("ATF_INSTALLED")), reason="builds from the source tree")

MODULE = """
cdef extern from "fact.h":
    int FACT
def fact():
    return FACT
def item(int[:] numbers):
    return numbers[5]
"""
HINTED = """
cdef void work() nogil:
    pass
def run():
    with nogil:
        work()
"""


@pytest.fixture
def tree(tmp_path):
    """A small source tree with our setup.py."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    project = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(re.sub(r"(?m)^packages = \[\"atf\".*", 'packages = ["atf", "atf._core"]', project, count=1))
    (tmp_path / "_core").mkdir()
    (tmp_path / "atf").mkdir()
    (tmp_path / "atf/_core").symlink_to("../_core")
    (tmp_path / "atf/__init__.py").touch()
    (tmp_path / "_core/__init__.py").touch()
    (tmp_path / "_core/fact.h").write_text("#define FACT 1\n")
    return tmp_path


def build(tree, kind="release"):
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    return subprocess.run(command, cwd=tree, env={**os.environ, "ATF_BUILD": kind}, capture_output=True, text=True)


def ask(tree, expression):
    command = [sys.executable, "-c", f"import array; from atf._core import probe; print({expression})"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout.strip()


def image(tree):
    (module,) = (tree / "_core").glob("*.so")
    return module.read_bytes()


def test_kinds_do_not_mix(tree):
    (tree / "_core/probe.pyx").write_text(MODULE)
    assert build(tree).returncode == 0
    release = image(tree)
    assert build(tree, "debug").returncode == 0
    assert image(tree) != release
    assert build(tree).returncode == 0
    assert image(tree) == release, "a release build after a debug build left something of the debug build"


def test_a_changed_header_rebuilds(tree):
    (tree / "_core/probe.pyx").write_text(MODULE)
    assert build(tree).returncode == 0
    assert ask(tree, "probe.fact()") == "1"
    (tree / "_core/fact.h").write_text("#define FACT 2\n")
    assert build(tree).returncode == 0
    assert ask(tree, "probe.fact()") == "2"


def test_a_performance_hint_fails_every_time(tree):
    (tree / "_core/probe.pyx").write_text(HINTED)
    for _ in range(2):
        done = build(tree)
        assert done.returncode != 0
        assert "performance hint" in done.stderr


def test_an_unknown_kind_is_refused(tree):
    done = build(tree, "fastest")
    assert done.returncode != 0
    assert "choose one of" in done.stderr
