"""What all tests share: none may leave a shared memory segment behind, since segments outlive their process and are few."""

import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

SEGMENTS = pathlib.Path("/proc/sysvipc/shm")


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
