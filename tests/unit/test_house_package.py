"""The package: its list of rooms, its version, and which copy of it the tests run."""

import os
import pathlib
import re
import sys

import atf
from atf._core import layout

ROOT = pathlib.Path(__file__).parents[2]
PROJECT = (ROOT / "pyproject.toml").read_text()


def test_package_list_is_the_directories():
    listed = re.search(r"^packages = \[([^\]]*)\]", PROJECT.split("[tool.setuptools]")[1], re.M)
    assert listed
    names = set(re.findall(r'"([^"]+)"', listed[1]))
    found = set()
    for directory, _, files in os.walk(ROOT / "atf", followlinks=True):
        if "__init__.py" in files:
            found.add(".".join(pathlib.Path(directory).relative_to(ROOT).parts))
    assert names == found


def test_one_version():
    version = re.search(r'^version = "([^"]+)"', PROJECT, re.M)[1]
    assert atf.__version__ == version
    assert re.search(rf"^## {re.escape(version)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M), "the changelog lacks this version"


def test_tests_run_against_the_right_copy():
    here = pathlib.Path(layout.__file__).resolve()
    if os.environ.get("ATF_INSTALLED"):
        assert here.is_relative_to(pathlib.Path(sys.prefix).resolve())
    else:
        assert here.parent == ROOT / "_core"
