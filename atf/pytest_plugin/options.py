"""Options, their twins in the ini file and the environment, and the marker. The command line wins, then the environment, then the ini file."""

from __future__ import annotations

import argparse
import os
from typing import Any, NamedTuple

import pytest

from atf.pytest_plugin.modes import DEFAULT, MODES, OFF

LEVELS = ("calls", "returns", "c", "args", "repr")
MARKER = "atf(mode, include, exclude, level, ring, tail, max_calls, max_duration): record this test, with or without --atf"
MARKER_NAMES = ("mode", "include", "exclude", "level", "ring", "tail", "max_calls", "max_duration")

# name: (kind in the ini file, default, metavar, help)
OPTIONS: dict[str, tuple[Any, Any, str, str]] = {
    "dir": ("string", "test-results/atf", "DIR", "where traces are kept"),
    "include": ("args", None, "GLOB", "modules to record, such as 'shop.*' (several: repeat); default: all that is not installed"),
    "exclude": ("args", None, "GLOB", "modules not to record, besides those of pytest"),
    "level": ("string", "returns", "LEVEL", f"what is recorded: {', '.join(LEVELS)}, or c,args"),
    "ring": ("string", None, "SIZE", "memory of each thread for events, such as 16M"),
    "tail": ("string", "40", "N", "calls shown when a test fails; 0: none"),
    "diff": ("string", "last-green", "BASELINE", "a trace to compare failures with; default: last-green, what the index has; off: no comparison"),
    "max_files": ("string", "200", "N", "traces that stay, the oldest go; 0: all stay"),
}


class Settings(NamedTuple):
    """What was asked for, whoever asked. include None: the default of the plugin."""

    mode: str
    never: bool  # --no-atf: markers and fixtures record nothing either
    dir: str
    include: tuple[str, ...] | None
    exclude: tuple[str, ...]
    level: str
    ring: str | None
    tail: int
    diff: str
    max_files: int


class Limits(NamedTuple):
    """What a marker allows a test's call phase."""

    max_calls: int | None = None
    max_duration_s: float | None = None


class _Mode(argparse.Action):
    """--atf and --atf=MODE as one option without an argument, so that `pytest --atf tests/` does not take tests/ for a mode."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, (option_string or "").partition("=")[2] or DEFAULT)


def add(parser: pytest.Parser) -> None:
    group = parser.getgroup("atf", "a trace of each test (atf)")
    spelled = [f"--atf={mode}" for mode in MODES]
    says = "; ".join(f"{mode}: {meaning}" for mode, meaning in MODES.items())
    group.addoption("--atf", *spelled, action=_Mode, nargs=0, dest="atf_mode", default=None, help=f"record the tests. {says}")
    group.addoption("--no-atf", action="store_true", dest="atf_never", default=False, help="record nothing, markers or not")
    group.addoption("--atf-update", action="store_true", dest="atf_update", default=False, help="write the baselines that tests compare with")
    parser.addini("atf_mode", "as --atf=MODE", default=None)
    for name, (kind, default, metavar, text) in OPTIONS.items():
        action = "append" if kind == "args" else "store"
        flag = f"--atf-{name.replace('_', '-')}"
        shown = "" if default is None or "default" in text else f" (default: {default})"
        group.addoption(flag, action=action, dest=f"atf_{name}", default=None, metavar=metavar, help=text + shown)
        parser.addini(f"atf_{name}", f"as {flag}", type=kind, default=None)


def _asked(config: pytest.Config, namespace: Any, name: str) -> Any:
    """The value of an option and where it comes from, or (None, "")."""
    flag = "--atf" if name == "mode" else f"--atf-{name.replace('_', '-')}"
    value = getattr(namespace, f"atf_{name}", None)
    if value is not None:
        return value, flag
    variable = f"ATF_{name.upper()}"
    if value := os.environ.get(variable):
        return (value.split() if name in ("include", "exclude") else value), variable
    value = config.getini(f"atf_{name}")
    return (value, f"atf_{name} in the ini file") if value else (None, "")


def _number(value: Any, where: str) -> int:
    try:
        found = int(value)
    except (TypeError, ValueError):
        found = -1
    if found < 0:
        raise pytest.UsageError(f"{where}: {value!r} is not a number; write one from 0 on")
    return found


def _mode(value: Any, where: str) -> str:
    if value not in MODES:
        raise pytest.UsageError(f"{where}: there is no mode {value!r}; choose one of {', '.join(MODES)}")
    return str(value)


def _level(value: Any, where: str) -> str:
    if not isinstance(value, str) or not all(part.strip() in LEVELS for part in value.split(",")):
        raise pytest.UsageError(f"{where}: there is no level {value!r}; choose from {', '.join(LEVELS)} (c and args can be joined: c,args)")
    return value


def _ring(value: Any, where: str) -> str:
    from atf.recording import ring_options

    try:
        ring_options(value)
    except Exception as error:
        raise pytest.UsageError(f"{where}: {error}") from None
    return str(value)


def _globs(value: Any, where: str) -> tuple[str, ...]:
    found = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple)) else ()
    if not found or not all(isinstance(one, str) and one for one in found):
        raise pytest.UsageError(f"{where}: module name globs like 'shop.*', not {value!r}")
    return tuple(found)


def settings(config: pytest.Config, namespace: Any) -> Settings:
    """Raises pytest.UsageError when a value cannot be used."""
    asked = {name: _asked(config, namespace, name) for name in ("mode", *OPTIONS)}

    def given(name: str, check: Any) -> Any:
        value, where = asked[name]
        if value is None:
            value, where = OPTIONS[name][1], "the default"
        return value if value is None else check(value, where)

    value, where = asked["mode"]
    never = bool(getattr(namespace, "atf_never", False))
    return Settings(
        mode=OFF if value is None or never else _mode(value, where),
        never=never,
        dir=given("dir", lambda value, where: os.fspath(value)),
        include=given("include", _globs),
        exclude=given("exclude", _globs) or (),
        level=given("level", _level),
        ring=given("ring", _ring),
        tail=given("tail", _number),
        diff=given("diff", lambda value, where: str(value)),
        max_files=given("max_files", _number),
    )


def of_marker(settings: Settings, item: pytest.Item) -> tuple[Settings, Limits]:
    """What holds for one test: its markers over the settings, the nearest one first. Raises pytest.UsageError."""
    marks = list(item.iter_markers("atf"))
    where = f"{item.nodeid}: @pytest.mark.atf"
    given: dict[str, Any] = {}
    for mark in reversed(marks):
        if mark.args:
            raise pytest.UsageError(f"{where}: arguments are given by name: {', '.join(MARKER_NAMES)}")
        if unknown := [name for name in mark.kwargs if name not in MARKER_NAMES]:
            raise pytest.UsageError(f"{where}: there is no argument {unknown[0]!r}; there are {', '.join(MARKER_NAMES)}")
        given.update(mark.kwargs)
    checks: dict[str, Any] = {"mode": _mode, "include": _globs, "exclude": _globs, "level": _level, "ring": _ring, "tail": _number}
    changes: dict[str, Any] = {name: check(given[name], f"{where}({name}=)") for name, check in checks.items() if name in given}
    if "exclude" in changes:
        changes["exclude"] = (*settings.exclude, *changes["exclude"])
    calls, seconds = given.get("max_calls"), given.get("max_duration")
    if calls is not None:
        _number(calls, f"{where}(max_calls=)")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds <= 0):
        raise pytest.UsageError(f"{where}(max_duration=): {seconds!r} is not a time; write seconds, such as 0.5")
    if settings.mode == OFF and "mode" not in changes:
        changes["mode"] = DEFAULT
    return settings._replace(**changes), Limits(calls, seconds)
