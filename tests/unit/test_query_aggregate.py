"""Aggregation over files: against the oracle, with every executor, with files that fail, and partials in any order."""

import gc
import os
import random
import subprocess
import sys
import textwrap
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import reduce
from multiprocessing import get_context
from pathlib import Path

import pytest

import atf.query
from atf.errors import FormatError, UsageError
from atf.query.aggregation import Aggregate, _plan, aggregate, table_of, ThreadFile
from atf.query.partials import Table, merged

sys.path.insert(0, str(Path(__file__).parents[1]))
import mixed_traces
import oracle
import tracefiles as tf

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    root = tmp_path_factory.mktemp("aggregate")
    return [mixed_traces.write(root / str(seed), seed) for seed in range(2)]


def expected(recorded, group):
    """{key: [count, total, self, min, max, exceptions, active, [active times]]} by the oracle, thread by thread."""
    result = {}
    for session, written in recorded:
        ends = mixed_traces.times(written)
        for one in written:
            rows, _ = oracle.spans([one.events], ends[one.pid])

            def key(_, span, session=session, one=one):
                return group(session, one, one.named(span.function))

            for name, sums in oracle.totals(rows, key).items():
                actives = [span.active for _, span in rows if key(0, span) == name]
                before = result.setdefault(name, [0, 0, 0, sums[3], 0, 0, 0, []])
                for i in (0, 1, 2, 5, 6):
                    before[i] += sums[i]
                before[3], before[4] = min(before[3], sums[3]), max(before[4], sums[4])
                before[7] += actives
    return result


GROUPS = {
    "functions": lambda session, one, of: of,
    "modules": lambda session, one, of: (of[0],),
    "threads": lambda session, one, of: (str(session / f"pid_{one.pid}"), one.number, one.tid, one.name),
}


@pytest.mark.parametrize("what", GROUPS)
def test_sums_are_the_oracles(recorded, what):
    found = aggregate([session for session, _ in recorded], what)
    want = expected(recorded, GROUPS[what])
    assert {row.key for row in found.rows} == set(want) and found.files == 12 and not found.errors
    for row in found.rows:
        count, total, self_ns, low, high, exceptions, active, times = want[row.key]
        assert (row.count, row.total_ns, row.self_ns, row.min_ns, row.max_ns) == (count, total, self_ns, low, high)
        assert (row.exceptions, row.mean_ns, sum(row.histogram.values())) == (exceptions, active // count, count)
        for q in (0, 0.5, 0.95, 1):
            exact = sorted(times)[max(1, -(-round(q * count * 1000) // 1000)) - 1]
            assert abs(row.quantile_ns(q) - exact) <= exact / 32
    order = [(-row.self_ns, row.key) for row in found.rows]
    assert order == sorted(order)


def test_counts_are_of_all_files(recorded):
    found = aggregate([session for session, _ in recorded])
    threads = [one for _, written in recorded for one in written]
    lies = [oracle.spans([one.events])[1] for one in threads]
    want = {name: sum(one[name] for one in lies) for name in lies[0]}
    spans = sum(row.count for row in found.rows)
    assert found.value.counts == {"files": 12, "events": sum(len(one.events) for one in threads), "spans": spans, **want}


class Late(Executor):
    """Runs nothing before it is asked for, and then the other way round."""

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        future.result = lambda timeout=None: fn(*args, **kwargs)
        return future


def heads(thread: ThreadFile) -> list:
    """A map of the user's: events only."""
    return [(thread.pid, thread.tid, thread.name, len(thread.events))]


def joined(a: list, b: list) -> list:
    return a + b


def test_every_executor_gives_the_same(recorded):
    sessions = [session for session, _ in recorded]
    asked = [("functions", {}), ("modules", {}), ("threads", {}), (heads, {"merge": joined})]
    serial = [aggregate(sessions, what, **more) for what, more in asked]
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        for executor in (threads, processes, Late()):
            assert [aggregate(sessions, what, executor, **more) for what, more in asked] == serial
            assert aggregate(sessions[::-1], "functions", executor).value.digest() == serial[0].value.digest()
    assert [row[1] for row in serial[3].value] == [one.tid for _, written in recorded for one in written]


def test_partials_merge_in_any_order(recorded):
    plan, _ = _plan([session for session, _ in recorded])
    parts = [table_of("functions", ThreadFile(*one)) for one in plan]
    whole = merged(parts)
    for seed in range(4):
        some = parts[:]
        random.Random(seed).shuffle(some)
        middle = seed + 2
        assert reduce(Table.merge, some) == whole
        assert merged(some[:middle]).merge(merged(some[middle:])) == whole
    assert merged([*parts, merged([])]) == whole and whole != merged(parts[1:])


def test_a_thread_that_lacks_a_function_changes_nothing_of_it(tmp_path):
    a, b = 1 << 32, 1 << 32 | 1
    threads = {n: (n, [tf.event(100, id, tf.CALL), tf.event(100 + took, id, tf.RETURN)], ()) for n, id, took in ((0, a, 10), (1, b, 30))}
    content = tf.manifest({0: {}, 1: {}}, {a: ("a", "", 0), b: ("b", "", 0), 1 << 32 | 2: ("never", "", 0)}, {1: "m"})
    tf.write_process(tmp_path / "session_20260101_000000", 1, threads, content)
    found = aggregate(tmp_path).rows
    assert [(row.key[1], row.count, row.min_ns, row.max_ns, row.histogram) for row in found] == [
        ("b", 1, 30, 30, {1 + 16 * 4 + 14: 1}),
        ("a", 1, 10, 10, {1 + 16 * 3 + 4: 1}),
    ]


def test_paths_of_every_kind_count_once(recorded):
    session, _ = recorded[0]
    whole = aggregate(session)
    assert aggregate(session.parent) == whole  # the directory of sessions
    assert aggregate([session / "pid_40", str(session / "pid_41"), session]) == whole
    thread = session / "pid_40" / "thread_0"
    assert aggregate(thread) == aggregate(thread / "index.atf") == aggregate([thread, thread / "index.atf"])
    assert aggregate(thread).files == 1
    parts = [aggregate(session / f"pid_{pid}" / f"thread_{n}").value for pid in (40, 41) for n in range(3)]
    assert merged(parts) == whole.value  # open spans of one thread end when its process did


@pytest.mark.parametrize("executor", [None, Late()])
def test_a_file_that_fails_stands_beside_the_result(tmp_path, executor):
    session, _ = mixed_traces.write(tmp_path, 5)
    bad = session / "pid_40" / "thread_0" / "index.atf"
    rest = aggregate([session / "pid_40" / f"thread_{n}" for n in (1, 2)] + [session / "pid_41"]).value
    bad.write_bytes(b"no index")
    found = aggregate([session, tmp_path / "nowhere"], executor=executor)
    assert [path for path, _ in found.errors] == sorted([str(bad), str(tmp_path / "nowhere")])
    assert "8 bytes long" in dict(found.errors)[str(bad)] and "not there" in dict(found.errors)[str(tmp_path / "nowhere")]
    assert found.files == 5 and found.value.counts == rest.counts


def fails_on_workers(thread: ThreadFile) -> int:
    if thread.number == 1:
        raise ZeroDivisionError("one")
    return thread.number


def test_a_map_that_fails_on_one_file(recorded):
    session, _ = recorded[0]
    with ThreadPoolExecutor(2) as executor:
        for one in (None, executor):
            found = aggregate(session, fails_on_workers, one, merge=lambda a, b: a + b)
            assert found.value == 4 and [error for _, error in found.errors] == ["ZeroDivisionError: one"] * 2


def cuts_its_file(thread: ThreadFile) -> int:
    events = len(thread.events)
    if thread.number == 0:
        os.truncate(thread.path, 64)
    return events


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    session, written = mixed_traces.write(tmp_path, 5)
    found = aggregate(session, cuts_its_file, merge=lambda a, b: a + b)
    assert [Path(path).parent.name for path, _ in found.errors] == ["thread_0"] * 2
    assert found.value == sum(len(one.events) for one in written if one.number)


def test_a_merge_that_fails_stops_the_rest(recorded):
    def refuse(a, b):
        raise ZeroDivisionError

    class Never(Late):
        def __init__(self):
            self.futures = []

        def submit(self, fn, /, *args, **kwargs):
            self.futures.append(super().submit(fn, *args, **kwargs))
            return self.futures[-1]

    executor = Never()
    with pytest.raises(ZeroDivisionError):
        aggregate(recorded[0][0], heads, executor, merge=refuse)
    gc.collect()
    assert [future.cancelled() for future in executor.futures] == [False] * 2 + [True] * 4


def test_what_cannot_be_sent_is_an_error_of_its_files(recorded):
    session, _ = recorded[0]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        with pytest.raises(FormatError, match="no file gave a result"):
            aggregate(session, lambda thread: 1, executor, merge=lambda a, b: a + b)


def test_nothing_at_all(tmp_path):
    (tmp_path / "session_20260101_000000").mkdir()
    found = aggregate(tmp_path)
    assert found.rows == [] and found.files == 0 and found.errors == ()
    with pytest.raises(FormatError, match="not there"):
        aggregate(tmp_path / "nowhere")


def test_wrong_use(recorded):
    session, _ = recorded[0]
    for call in (
        lambda: aggregate(session, "function"),
        lambda: aggregate(session, heads),
        lambda: aggregate(session, "functions", merge=joined),
        lambda: Aggregate(3, 1).rows,
    ):
        with pytest.raises(UsageError):
            call()


def test_it_is_found_in_the_package():
    assert atf.query.aggregate is aggregate
    with pytest.raises(AttributeError):
        _ = atf.query.nothing


DASK = """
    import sys
    from dask.distributed import Client
    from atf.query import aggregate

    def spans(thread):
        return len(thread.spans)

    if __name__ == "__main__":
        with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
            executor = client.get_executor(pure=False)
            for what in ("functions", "modules", "threads"):
                print(aggregate(sys.argv[1:], what, executor).value.digest())
            print(aggregate(sys.argv[1:], spans, executor, merge=lambda a, b: a + b).value)
"""


def test_dask(recorded, tmp_path):
    """A cluster of two processes, as its own program: its threads and warnings stay out of this one."""
    pytest.importorskip("distributed")
    sessions = [session for session, _ in recorded]
    script = tmp_path / "on_dask.py"
    script.write_text(textwrap.dedent(DASK))
    run = [sys.executable, str(script), *map(str, sessions)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=environment(tmp_path))
    assert done.returncode == 0, done.stderr
    want = [aggregate(sessions, what).value for what in ("functions", "modules", "threads")]
    assert done.stdout.split() == [*(table.digest() for table in want), str(want[0].counts["spans"])]


def environment(home):
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]), "HOME": str(home)}
