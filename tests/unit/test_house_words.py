"""What has no place in the tree or its history: paths of one machine, numbers of tickets, things left undone."""

import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BANNED = {
    "a path of somebody's machine": r"(?<![\w.$~}/-])/(?:home|root|work|mnt|Users)/\w|\.\./shared\b|/tmp/wt\b",
    "the number of a ticket": r"\b(?:[Ii]ssue|[Tt]icket|GH-)\s?#?\d+\b",
    "something left undone": r"\b(?:TODO|FIXME|XXX|HACK)\b",
    "who typed it": r"(?i)\bco-authored-by\b|\bgenerated (?:by|with) (?!cython)",
}
SKIPPED = {".git", ".venv", ".venvs", "build", "dist", "htmlcov", "__pycache__", "atf-traces", ".hypothesis"}
SUFFIXES = {".py", ".pyx", ".pxd", ".pyi", ".c", ".h", ".S", ".md", ".toml", ".txt", ".json", ".in", ""}


def tree():
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        if any(part in SKIPPED or part.endswith((".egg-info", "_cache")) for part in parts):
            continue
        if path.is_file() and path.suffix in SUFFIXES and path.name not in ("LICENSE", ".git", pathlib.Path(__file__).name):
            yield path


def found_in(text):
    return [f"{why}: {match[0]!r}" for why, pattern in BANNED.items() for match in re.finditer(pattern, text)]


def test_tree():
    faults = {}
    for path in tree():
        try:
            faults[path] = found_in(path.read_text())
        except UnicodeDecodeError:
            continue
    assert {str(path.relative_to(ROOT)): fault for path, fault in faults.items() if fault} == {}


def test_commit_messages():
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout, or no git")
    log = subprocess.run(["git", "log", "--format=%B"], cwd=ROOT, capture_output=True, text=True)
    assert log.returncode == 0, log.stderr
    assert found_in(log.stdout) == []


def test_each_pattern_finds_something():
    said = "see /home" + "/me, iss" + "ue 7, FIX" + "ME, Co-authored" + "-by: me"
    assert len(found_in(said)) == len(BANNED)
