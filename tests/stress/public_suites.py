"""The test suites of well-known pure-Python projects: plain, under ``atf record``, with ``--atf``, and with ``--atf`` and two workers. Every
test must end alike.

    python tests/stress/public_suites.py [project ...]     needs PyPI; works below build/public-suites

Prints one line a way, and every test whose outcome differs. Exit status 1 when there is one.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import time
from importlib import metadata
from xml.etree import ElementTree

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "public-suites"
# Projects whose source archives hold their tests: version, what the tests need, arguments of pytest.
PROJECTS = {
    "packaging": ("24.2", ["pretend"], ["tests"]),
    "more-itertools": ("10.5.0", [], ["tests"]),
    "click": ("8.1.7", [], ["tests"]),
    "attrs": ("24.2.0", ["hypothesis", "cloudpickle"], ["tests", "--ignore=tests/test_mypy.yml", "-p", "no:mypy-testing"]),
}
PYTEST = ("pytest==8.3.5", "pytest-xdist==3.6.1")  # newer ones refuse to collect some of these suites
KINDS = {"failure": "failed", "error": "error", "skipped": "skipped"}
INSTALLED = any(one.value == "atf.pytest_plugin" for one in metadata.entry_points(group="pytest11"))
PLUGIN = [] if INSTALLED else ["-p", "atf.pytest_plugin"]
WAYS = ("atf record", "--atf", "--atf -n 2")


def fetch(name: str, version: str) -> pathlib.Path:
    """The unpacked source archive."""
    place = WORK / f"{name}-{version}"
    if not place.exists():
        WORK.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, "-d", str(WORK), f"{name}=={version}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if not archive(name, version) else None
        found = archive(name, version)
        assert found, f"pip brought no source archive of {name}"
        with tarfile.open(found) as file:
            top = file.getnames()[0].split("/")[0]
            file.extractall(WORK, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        (WORK / top).rename(place) if WORK / top != place else None
    return place


def archive(name: str, version: str) -> pathlib.Path | None:
    stem = re.sub("[-_]", "[-_]", name)
    return next((path for path in WORK.glob("*.tar.gz") if re.fullmatch(rf"{stem}-{re.escape(version)}\.tar\.gz", path.name)), None)


def environment(place: pathlib.Path, needs: list[str]) -> dict[str, str]:
    """The project's own source first on the path, and what its tests need beside it."""
    site = WORK / f"site-{sys.version_info.major}.{sys.version_info.minor}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", str(site), *PYTEST, *needs], check=True, stderr=subprocess.DEVNULL)
    source = place / "src" if (place / "src").is_dir() else place
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(ROOT), str(site)]), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


def outcomes(command: list[str], place: pathlib.Path, variables: dict[str, str]) -> tuple[int, dict[str, str], float, str]:
    """Exit status, outcome of each test, seconds, and what was said last."""
    report = WORK / "report.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    done = subprocess.run([*command, f"--junitxml={report}"], cwd=place, env=variables, capture_output=True, text=True, timeout=1200)
    seconds, found = time.monotonic() - began, {}
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        name = f"{case.get('classname')}.{case.get('name')}"
        found[name] = " ".join(sorted({KINDS[one.tag] for one in case if one.tag in KINDS})) or "passed"
    return done.returncode, found, seconds, (done.stderr.strip() or done.stdout.strip()).rpartition("\n")[2]


def compare(name: str) -> bool:
    version, needs, words = PROJECTS[name]
    place = fetch(name, version)
    variables = environment(place, needs)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *words]
    traces = WORK / "traces"
    kept = [*tests, *PLUGIN, "--atf", f"--atf-dir={traces}"]
    ways = dict(zip(WAYS, ([sys.executable, "-m", "atf", "record", "--out", str(traces), "--", *tests], kept, [*kept, "-n", "2"])))
    status, plain, seconds, _ = outcomes(tests, place, variables)
    counts = {kind: list(plain.values()).count(kind) for kind in sorted(set(plain.values()))}
    print(f"{name} {version} on {sys.version.split()[0]}: {len(plain)} tests {counts}, exit status {status}, {seconds:.1f} s")
    good = bool(plain)
    for way, command in ways.items():
        traced_status, traced, traced_seconds, said = outcomes(command, place, variables)
        shutil.rmtree(traces, ignore_errors=True)
        differing = sorted(test for test in plain.keys() | traced.keys() if plain.get(test) != traced.get(test))
        same = not differing and status == traced_status
        good = good and same
        print(f"   {way}: {'the same' if same else 'DIFFERENT'}, exit status {traced_status}, {traced_seconds:.1f} s; {said}")
        for test in differing[:20]:
            print(f"   {test}: {plain.get(test)} without, {traced.get(test)} with")
    return good


if __name__ == "__main__":
    sys.exit(0 if all(list(map(compare, sys.argv[1:] or PROJECTS))) else 1)
