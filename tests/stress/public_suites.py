"""The test suites of well-known pure-Python projects, with and without ``atf record``: every test must end alike.

    python tests/stress/public_suites.py [project ...]     needs PyPI; works below build/public-suites

Prints one line a project, and every test whose outcome differs. Exit status 1 when there is one.
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

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "public-suites"
# Projects whose source archives hold their tests: version, what the tests need, arguments of pytest.
PROJECTS = {
    "packaging": ("24.2", ["pretend"], ["tests"]),
    "more-itertools": ("10.5.0", [], ["tests"]),
    "click": ("8.1.7", [], ["tests"]),
    "attrs": ("24.2.0", ["hypothesis", "cloudpickle"], ["tests", "--ignore=tests/test_mypy.yml", "-p", "no:mypy-testing"]),
}
PYTEST = "pytest==8.3.5"  # newer ones refuse to collect some of these suites
OUTCOME = re.compile(r"^(\S.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b", re.M)


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
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", str(site), PYTEST, *needs], check=True, stderr=subprocess.DEVNULL)
    source = place / "src" if (place / "src").is_dir() else place
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), str(ROOT), str(site)]), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


def outcomes(command: list[str], place: pathlib.Path, variables: dict[str, str]) -> tuple[int, dict[str, str], float, str]:
    """Exit status, outcome of each test, seconds, and what stood on standard error."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, timeout=1200)
    return done.returncode, dict(OUTCOME.findall(done.stdout)), time.monotonic() - began, done.stderr


def compare(name: str) -> bool:
    version, needs, words = PROJECTS[name]
    place = fetch(name, version)
    variables = environment(place, needs)
    tests = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:randomly", *words]
    recorded = [sys.executable, "-m", "atf", "record", "--out", str(WORK / "traces"), "--", *tests]
    status, plain, seconds, _ = outcomes(tests, place, variables)
    traced_status, traced, traced_seconds, said = outcomes(recorded, place, variables)
    shutil.rmtree(WORK / "traces", ignore_errors=True)
    differing = sorted(test for test in plain.keys() | traced.keys() if plain.get(test) != traced.get(test))
    counts = {kind: list(plain.values()).count(kind) for kind in sorted(set(plain.values()))}
    same = not differing and status == traced_status and bool(plain)
    print(f"{name} {version} on {sys.version.split()[0]}: {len(plain)} tests {counts}, exit status {status}, {seconds:.1f} s")
    print(f"   recorded: {'the same' if same else 'DIFFERENT'}, exit status {traced_status}, {traced_seconds:.1f} s; {said.strip().splitlines()[0] if said.strip() else ''}")
    for test in differing:
        print(f"   {test}: {plain.get(test)} without, {traced.get(test)} with")
    return same


if __name__ == "__main__":
    sys.exit(0 if all(list(map(compare, sys.argv[1:] or PROJECTS))) else 1)
