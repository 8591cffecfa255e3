"""What all tests share: none may leave a shared memory segment behind, since segments outlive their process and are few."""

import os
import pathlib
import sys

import pytest

pytest_plugins = ["pytester"]

sys.path.insert(0, str(pathlib.Path(__file__).parent))

SEGMENTS = pathlib.Path("/proc/sysvipc/shm")

# Suites of many compiled programs and many started recorders: `make test` runs every n-th of their tests, and those that are marked as
# guards of a fault that was once there; `make stress` runs the others.
SAMPLED = {
    "test_agent_attach": 2, "test_agent_behaviour": 3, "test_agent_details": 6, "test_agent_faults": 5, "test_agent_shapes": 10,
    "test_agent_traps": 2, "test_flight_ends": 4, "test_flight_stat": 6, "test_flight_triggers": 8, "test_native_aarch64": 2, "test_native_attach": 2,
    "test_native_big_programs": 6, "test_native_children": 8, "test_native_details": 7, "test_native_edges": 6, "test_native_faults": 6,
    "test_native_instrumented": 14, "test_native_processes": 6, "test_native_programs": 2, "test_native_python": 6, "test_native_record": 2,
    "test_native_slow_path": 10,
}  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Before tests are chosen by their marks."""
    seen = dict.fromkeys(SAMPLED, 0)
    for item in items:
        suite = item.path.stem
        if suite in seen:
            if seen[suite] % SAMPLED[suite] and not item.get_closest_marker("guard"):
                item.add_marker(pytest.mark.stress)
            seen[suite] += 1


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A directory with the traces that the documentation speaks of."""
    import doctraces

    place = tmp_path_factory.mktemp("traces")
    doctraces.write(place)
    return place


def abandoned() -> set[str]:
    """Segments that this process made and that nobody has attached."""
    try:
        head, *rows = (line.split() for line in SEGMENTS.read_text().splitlines())
    except (OSError, ValueError):
        return set()
    shmid, cpid, nattch = (head.index(name) for name in ("shmid", "cpid", "nattch"))
    return {row[shmid] for row in rows if row[cpid] == str(os.getpid()) and row[nattch] == "0"}


@pytest.fixture(autouse=True)
def no_segment_is_left():
    before = abandoned()
    yield
    left = abandoned() - before
    assert not left, f"shared memory segments left behind: {', '.join(sorted(left))} (`ipcrm -m` removes them)"
