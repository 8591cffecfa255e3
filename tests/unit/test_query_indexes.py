"""The span indexes of a trace: where they are kept, when they are made anew, and that none of it is ever an error."""

import errno
import gc
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from trace_session import main_thread, session, worker

import tracefiles as tf
from atf._core.errors import FormatError
from atf.query import indexes
from atf.query.indexes import NAME, indexes_of
from atf.trace import open_trace

pytestmark = pytest.mark.at_rest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    home = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(indexes, "KEPT_BYTES", 0)
    return home / "atf" / "index"


@pytest.fixture
def builds(monkeypatch):
    """How many indexes were built."""
    made = []
    build = indexes.Builder

    class Counted:
        def __init__(self):
            self.builder = build()

        def build(self, events, source):
            made.append(len(events))
            return self.builder.build(events, source)

        def __getattr__(self, name):
            return getattr(self.builder, name)

    monkeypatch.setattr(indexes, "Builder", Counted)
    return made


def files(place):
    return sorted(str(path.relative_to(place)) for path in Path(place).rglob(f"*{NAME}*"))


def agrees(trace):
    """The indexes say what the columns of all spans say."""
    import numpy

    found, columns = indexes_of(trace), trace.table().columns
    for index, first, last in zip(found, columns.thread_rows[:-1], columns.thread_rows[1:], strict=True):
        assert len(index) == last - first
        rows = index.gather(numpy.arange(len(index), dtype=numpy.uint32))
        for name in ("start_ns", "end_ns", "active_ns", "self_ns", "depth", "status", "call_seq", "end_seq", "function_id"):
            assert (rows[name] == getattr(columns, name)[first:last]).all(), name
    return found


def test_made_once_and_found_again(tmp_path, builds, cache):
    place = session(tmp_path, pids=(50, 51))
    agrees(open_trace(place))
    assert files(place) == [f"pid_{pid}/thread_{n}/{NAME}" for pid in (50, 51) for n in (0, 1)]
    assert sorted(builds) == [4, 4, 11, 11]
    agrees(open_trace(place))
    trace = open_trace(place)
    assert agrees(trace)[0] is indexes_of(trace)[0]
    assert len(builds) == 4 and not cache.exists()


def test_small_ones_are_not_kept(tmp_path, monkeypatch, cache):
    monkeypatch.setattr(indexes, "KEPT_BYTES", 4096)
    place = session(tmp_path)
    agrees(open_trace(place))
    assert not files(place) and not cache.exists()


def test_who_may_read_the_events_may_read_the_index(tmp_path):
    place = session(tmp_path)
    os.chmod(place / "pid_50/thread_0/index.atf", 0o640)
    indexes_of(open_trace(place))
    assert (place / "pid_50/thread_0" / NAME).stat().st_mode & 0o777 == 0o640


def test_other_events_make_another_index(tmp_path, builds):
    place = session(tmp_path)
    agrees(open_trace(place))
    file = place / "pid_50/thread_0/index.atf"
    events, _ = main_thread()
    # More events; the same number with another time; the same bytes written again; another end of the process.
    for change in (events[:-1], [*events[:-1], tf.event(190, 1 << 32, tf.RETURN)], None, "other"):
        before = len(builds)
        if change == "other":
            file = place / "pid_50/thread_1/index.atf"
            change = [*worker()[0], tf.event(500, 3, tf.INSTANT)]
        data = tf.index_bytes(change, 200) if change else file.read_bytes()
        time.sleep(0.02)  # the clock of the file system is coarse
        file.write_bytes(data)
        agrees(open_trace(place))
        assert len(builds) > before
        agrees(open_trace(place))
        again = len(builds)
        assert agrees(open_trace(place)) and len(builds) == again


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "directory", "fifo", "link", "other"])
def test_what_is_damaged_is_made_anew(tmp_path, damage, builds):
    place = session(tmp_path)
    agrees(open_trace(place))
    file, before = place / "pid_50/thread_0" / NAME, len(builds)
    data = bytearray(file.read_bytes())
    file.unlink()
    if damage == "directory":
        file.mkdir()
    elif damage == "fifo":
        os.mkfifo(file)
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        file.symlink_to(tmp_path / "elsewhere")
    else:
        data[450] ^= damage == "flipped"
        other = (place / "pid_50/thread_1" / NAME).read_bytes()
        file.write_bytes({"cut": data[:-64], "empty": b"", "flipped": data, "other": other}[damage])
    agrees(open_trace(place))
    assert len(builds) == before + 1
    agrees(open_trace(place))  # a directory that stands there cannot be replaced: then it is found in the cache
    assert len(builds) == before + 1


def test_a_trace_that_is_recorded_still_leaves_nothing_behind(tmp_path, cache, builds):
    place = session(tmp_path, status="recording", host="elsewhere")
    trace = open_trace(place)
    assert trace.processes[0].status == "recording"
    agrees(trace)
    with open(place / "pid_50/thread_1/index.atf", "r+b") as file:  # as a drain does that goes on
        file.truncate(64 + 32 * 4)
        file.seek(24)
        file.write(tf.index_bytes([], finalized=False)[24:64])
        file.seek(0, 2)
        file.write(tf.event(170, 2 << 32, tf.CALL))
    assert trace.refresh()
    agrees(trace)
    assert len(builds) == 4 and not files(place) and not cache.exists()


def test_a_directory_that_cannot_be_written_uses_the_cache(tmp_path, cache, builds, monkeypatch):
    place = session(tmp_path)
    save = indexes._save
    monkeypatch.setattr(indexes, "_save", lambda *given: None if given[2].name == NAME else save(*given))
    agrees(open_trace(place))
    agrees(open_trace(place))
    assert len(builds) == 2 and not files(place) and len(list(cache.iterdir())) == 2
    assert all(file.stat().st_mode & 0o077 == 0 for file in [cache, *cache.iterdir()])
    os.chmod(cache, 0o777)  # anybody could have put them there
    agrees(open_trace(place))
    assert len(builds) == 4


@pytest.mark.parametrize("memory", [False, True])
def test_nowhere_to_write_is_no_error(tmp_path, monkeypatch, memory, builds):
    place = session(tmp_path)

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(indexes.tempfile, "mkstemp", refuse)
    if memory:
        monkeypatch.setattr(indexes.tempfile, "TemporaryFile", refuse)
    agrees(open_trace(place))
    assert len(builds) == 2 and not files(place)


def test_a_full_disk_leaves_no_part_behind(tmp_path, cache, monkeypatch):
    """With the bytes themselves refused: a file size limit stands in for a full disk."""
    place = session(tmp_path)
    probe = f"""
import resource, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
import test_query_indexes as t; t.indexes.KEPT_BYTES = 0
t.agrees(t.open_trace({str(place)!r}))
"""
    subprocess.run([sys.executable, "-c", probe], check=True, timeout=60, cwd=Path(__file__).parents[2])
    assert not files(place) and not list(cache.glob("*.atfi"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_as_a_user_without_permission():
    with tempfile.TemporaryDirectory() as scratch:  # pytest's own directory is closed to others
        os.chmod(scratch, 0o755)
        place, home = session(Path(scratch)), Path(scratch) / "home"
        home.mkdir()
        os.chown(home, 65534, 65534)
        probe = f"""
import os, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
import test_query_indexes as t; t.indexes.KEPT_BYTES = 0
os.setgid(65534); os.setuid(65534)
t.agrees(t.open_trace({str(place)!r}))
"""
        for cache_home in (home, Path("/proc/1")):
            env = {**os.environ, "XDG_CACHE_HOME": str(cache_home), "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"}
            subprocess.run([sys.executable, "-c", probe], check=True, timeout=60, cwd=Path(__file__).parents[2], env=env)
            assert not files(place)
            assert len(list((home / "atf/index").glob("*.atfi"))) == 2


def test_two_processes_at_once(tmp_path):
    """FORBIDDEN: one of them fails, disagrees with the columns, or leaves something unfinished behind."""
    place = tmp_path / "session_20260101_000000"
    events = [tf.event(i, 1 + i // 2 % 7, 1 + i % 2) for i in range(6000)]
    tf.write_process(place, 5, {n: (100 + n, events, ()) for n in range(4)}, tf.manifest({n: {} for n in range(4)}, {}, {}))
    probe = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
import os, pathlib, test_query_indexes as t
sys.stdin.readline()
for i in range(15):
    t.agrees(t.open_trace({str(place)!r}))
    for file in pathlib.Path({str(place)!r}).rglob(t.NAME):
        if i % 3 == 0:
            file.unlink(missing_ok=True)
"""
    both = [subprocess.Popen([sys.executable, "-c", probe], stdin=subprocess.PIPE, cwd=Path(__file__).parents[2]) for _ in range(2)]
    for one in both:
        one.stdin.write(b"\n")
        one.stdin.flush()
    for one in both:
        one.stdin.close()
        assert one.wait(60) == 0
    agrees(open_trace(place))
    assert files(place) == [f"pid_5/thread_{n}/{NAME}" for n in range(4)]


def test_what_a_killed_process_left_is_removed(tmp_path):
    place = session(tmp_path)
    old, new = (place / "pid_50/thread_0" / f".{NAME}.{name}" for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"part")
    os.utime(old, (1, 1))
    indexes_of(open_trace(place))
    assert not old.exists() and new.exists()


def test_who_waits_may_give_up_and_the_work_goes_on(tmp_path, monkeypatch):
    place, go = session(tmp_path), threading.Event()
    build = indexes.Builder
    made = []

    class Slow:
        def __init__(self):
            self.builder = build()

        def build(self, *args):
            go.wait(20)
            made.append(1)
            return self.builder.build(*args)

        def __getattr__(self, name):
            return getattr(self.builder, name)

    monkeypatch.setattr(indexes, "Builder", Slow)
    trace = open_trace(place)

    def check():
        raise TimeoutError

    for _ in range(2):
        with pytest.raises(TimeoutError):
            indexes_of(trace, check)
    go.set()
    assert len(indexes_of(trace, lambda: None)) == 2 and len(made) == 2


def test_events_that_were_cut_are_an_error_now_and_none_later(tmp_path):
    place = session(tmp_path)
    trace, file = open_trace(place), place / "pid_50/thread_0/index.atf"
    data = file.read_bytes()
    os.truncate(file, 100)
    with pytest.raises(FormatError, match="was cut"):
        indexes_of(trace)
    file.write_bytes(data)
    assert len(indexes_of(trace)) == 2


def test_an_index_that_is_cut_is_noticed(tmp_path):
    place = session(tmp_path)
    index = indexes_of(open_trace(place))[0]
    index.check()
    os.truncate(place / "pid_50/thread_0" / NAME, 10)
    with pytest.raises(FormatError, match="was cut"):
        index.check()


def test_a_trace_that_is_gone_takes_its_indexes_along(tmp_path):
    trace = open_trace(session(tmp_path))
    indexes_of(trace)
    count = len(indexes._works)
    del trace
    gc.collect()
    assert len(indexes._works) == count - 1
