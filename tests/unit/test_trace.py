"""atf.open: sessions, names, events, spans, trees and sums, on files made byte by byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy
import pytest

import atf
from atf._core.errors import FormatError, UsageError
from atf.trace import open_trace

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, EXCEPTION, GAP, INSTANT, RETURN, detail, event

pytestmark = pytest.mark.at_rest

pack = msgspec.msgpack.encode
# The user's name has the number that the gap counts: one is not the other.
MAIN, SOLVE, STEP, USER = 1 << 32, 1 << 32 | 1, 2 << 32, 4
NAMES = {
    MAIN: ("main", "/src/app.py", 3),
    SOLVE: ("Model.solve", "/src/app.py", 9),
    STEP: ("step", "/src/lib.py", 1),
    USER: ("load", "", 0),
}
MODULES = {1: "app", 2: "lib"}


def main_thread():
    events = [
        event(100, MAIN, CALL, 1, 0),
        event(110, SOLVE, CALL, 2),
        event(120, STEP, CALL, 3),
        event(130, STEP, EXCEPTION, 3, 1),
        event(140, SOLVE, CALL, 3),
        event(150, SOLVE, RETURN, 3),
        event(160, SOLVE, RETURN, 2),
        event(165, USER, CALL, 2, 2),
        event(170, USER, INSTANT, 2, 3),
        event(175, USER, RETURN, 2),
        event(200, MAIN, RETURN, 1, 4),
    ]
    details = [
        detail(0, 16, pack({"args": {"n": 3, "who": {"~": "app.Model"}}})),
        detail(3, 18, pack({"type": "builtins.ValueError", "message": "no"})),
        detail(7, 19, pack({"name": "load", "attributes": {"file": "a.txt"}})),
        detail(8, 19, pack({"name": "hit", "attributes": {"rows": 2}})),
        detail(10, 17, pack({"value": [1, 2]})),
    ]
    return events, details


def worker(tid=201):
    return [
        event(105, STEP, CALL, 1, tid=tid),
        event(125, STEP, RETURN, 1, tid=tid),
        event(150, STEP, CALL, 1, tid=tid),
        event(155, 4, GAP, 1, tid=tid),
    ], ()


def session(root, name="session_20260101_120000", pids=(50,), **more):
    place = root / name
    for pid in pids:
        said = {0: {"tid": 200, "name": "MainThread"}, 1: {"tid": 201, "name": "worker-1", "lost": 4}}
        content = tf.manifest(said, NAMES, MODULES, pid=pid, argv=["app.py", "x"], exit=0, python="3.11.7", lost={"exhausted": 4}, **more)
        tf.write_process(place, pid, {0: (200, *main_thread()), 1: (201, *worker())}, content)
    return place


@pytest.fixture
def trace(tmp_path):
    with open_trace(session(tmp_path)) as opened:
        yield opened


def test_info(trace):
    info = trace.info
    assert info["status"] == "complete" and info["threads"] == 2 and info["events"] == 15 and info["lost"] == {"exhausted": 4}
    assert (info["time_start_ns"], info["time_end_ns"], info["duration_ns"]) == (100, 200, 100)
    assert info["processes"] == [
        {"pid": 50, "status": "complete", "parent_pid": None, "argv": ["app.py", "x"], "exit": 0, "python": "3.11.7"}
    ]
    assert info["recovered"] == {"files": [], "problems": []} and trace.check() == []
    assert info["spans"] is None and len(trace.spans()) == 7 and trace.info["spans"] == 7
    json.dumps(info)


def test_names(trace):
    assert trace.functions[SOLVE].qualified == "app.Model.solve" and trace.functions[(50, STEP)].line == 1
    assert trace.functions[USER].qualified == "load" and len(trace.functions) == 4
    assert [(t.number, t.tid, t.name, t.lost) for t in trace.threads] == [(0, 200, "MainThread", 0), (1, 201, "worker-1", 4)]


def test_events_come_in_order_of_time_with_their_details(trace):
    events = list(trace.events())
    assert [e.timestamp_ns for e in events] == sorted(e.timestamp_ns for e in events)
    # At 150 both threads have an event: the thread that comes first, first.
    assert [(e.thread.number, e.index_seq) for e in events if e.timestamp_ns == 150] == [(0, 5), (1, 2)]
    by_kind = {e.kind: e for e in events}
    assert by_kind["instant"].detail == {"name": "hit", "attributes": {"rows": 2}}
    assert by_kind["exception"].detail["message"] == "no" and events[1].detail is None
    gap = by_kind["gap"]
    assert (gap.lost, gap.reason, gap.function) == (4, "exhausted", None)


@pytest.mark.parametrize(
    "filters,count",
    [
        ({"function": "step"}, 5),
        ({"function": "lib.step", "kind": "call"}, 3),
        ({"function": "*solve"}, 4),
        ({"module": "app"}, 6),
        ({"module": "a*", "function": "main"}, 2),
        ({"module": ""}, 3),
        ({"function": "*"}, 14),
        ({"kind": ("gap", "instant")}, 2),
        ({"kind": []}, 0),
        ({"thread": 201}, 4),
        ({"thread": 1}, 4),
        ({"thread": "worker-*"}, 4),
        ({"thread": "nobody"}, 0),
        ({"start_ns": 120, "end_ns": 130}, 3),
        ({"start_ns": 131, "end_ns": 120}, 0),
        ({"depth": 3}, 4),
        ({"depth": (2, 3)}, 9),
        ({"limit": 3}, 3),
        ({"limit": 0}, 0),
        ({"function": "nothing"}, 0),
    ],
)
def test_event_filters(trace, filters, count):
    found = trace.events(**filters)
    assert len(found) == count == len(list(found))
    if "limit" not in filters:
        assert sum(len(one.events) for one in found.arrays()) == count
        assert sum(len(rows) for _, _, rows in found.chunks(2)) == count


def test_arrays_without_a_filter_are_the_file_itself(trace):
    one, two = trace.events(start_ns=110, end_ns=150).arrays()
    assert numpy.shares_memory(one.events, trace.threads[0].events) and one.index_seq == range(1, 6)
    assert two.events["timestamp_ns"].tolist() == [125, 150]


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.events(functoin="x"),
        lambda t: t.events(function=3),
        lambda t: t.events(kind="calls"),
        lambda t: t.events(start_ns="now"),
        lambda t: t.events(start_ns=1.5),
        lambda t: t.spans(min_duration=3),
        lambda t: t.spans(module=b"x"),
        lambda t: t.spans(status="fine"),
        lambda t: t.spans(order_by="name"),
        lambda t: t.spans(thread=1.0),
        lambda t: t.spans().column("_table"),
        lambda t: t.top(by="time"),
        lambda t: t.top(group="line"),
    ],
)
def test_what_cannot_be_used_is_a_usage_error(trace, call):
    with pytest.raises(UsageError):
        call(trace)


def test_a_misspelt_filter_is_told_its_neighbour(trace):
    with pytest.raises(UsageError, match="did you mean 'function'"):
        trace.events(functoin="x")


def test_spans(trace):
    main = trace.spans(function="main")[0]
    assert (main.duration_ns, main.self_ns, main.depth, main.status, main.span_id) == (100, 40, 1, "ok", "200:100:0")
    assert main.args == {"n": 3, "who": {"~": "app.Model"}} and main.result == [1, 2] and main.exception is None
    assert [s.name for s in main.children] == ["app.Model.solve", "load"] and main.child_count == 2 and main.children[0].parent == main
    assert main.children[1].attributes == {"file": "a.txt"} and main.children[1].args is None
    (raised,) = trace.spans(status="exception")
    assert raised.exception == {"type": "builtins.ValueError", "message": "no"} and raised.parent.name == "app.Model.solve"
    (lost,) = trace.spans(status="lost")
    assert lost.thread.name == "worker-1" and lost.end_ns == 200 and lost.end_seq is None


def test_span_filters_and_orders(trace):
    assert [s.start_ns for s in trace.spans()] == [100, 105, 110, 120, 140, 150, 165]
    assert [s.duration_ns for s in trace.spans(order_by="duration", limit=3)] == [100, 50, 50]
    assert [s.self_ns for s in trace.spans(order_by="self")][:2] == [50, 40]
    assert len(trace.spans(start_ns=120, end_ns=175)) == 3 and len(trace.spans(min_depth=2, max_depth=2)) == 2
    assert trace.spans(min_duration_ns=20, max_duration_ns=50).duration_ns.tolist() == [20, 50, 50]
    assert len(trace.spans(function="nothing")) == len(trace.spans(thread="nobody")) == 0
    assert len(trace.spans()[2:4]) == 2 and trace.spans()[-1].name == "load"
    assert trace.spans(module="lib").column("status").tolist() == [0, 1, 4]


def test_the_first_of_many_are_the_first_of_all_in_order(tmp_path):
    times = [(i * 7919) % 50 for i in range(400)]  # many ties
    events, now = [], 1000
    for n in times:
        events += [event(now, STEP, CALL), event(now + n, STEP, RETURN)]
        now += 100
    trace = open_trace(tf.write_process(tmp_path, 1, {0: (9, events, ())}))
    for order in ("start", "duration", "self"):
        everything = [s.call_seq for s in trace.spans(order_by=order)]
        for limit in (1, 7, 30, 399, 400, 1000):
            assert [s.call_seq for s in trace.spans(order_by=order, limit=limit)] == everything[:limit]


def test_calls_in_progress_at_the_start_say_so(tmp_path):
    place = tf.write_process(
        tmp_path,
        1,
        {0: (9, [event(5, MAIN, CALL), event(5, STEP, CALL, 2), event(9, SOLVE, CALL, 3)], ())},
        tf.manifest({0: {"entered": 2}}, NAMES, MODULES),
    )
    assert [s.start_known for s in open_trace(place).spans()] == [False, False, True]


def test_the_tree(trace):
    drawn = ["  " * (node.level - 1) + node.span.function.name for node in trace.tree().walk()]
    assert drawn == ["main", "  Model.solve", "    step", "    Model.solve", "  load", "step", "step"]
    assert [node.level for node in trace.tree(max_depth=2).walk()] == [1, 2, 2, 1, 1]
    below = trace.tree(function="*solve")  # the inner solve is in the tree of the outer one, not beside it
    assert len(below) == 1 and [n.span.function.name for n in below.walk()] == ["Model.solve", "step", "Model.solve"]
    cut = trace.tree(limit=3)
    assert len(list(cut.walk())) == 3 and cut.truncated
    assert len(list(trace.tree(thread="worker-1").walk())) == 2


def test_top_counts_recursion_once(trace):
    rows = {row.name: row for row in trace.top()}
    solve = rows["Model.solve"]
    assert (solve.count, solve.total_ns, solve.self_ns, solve.min_ns, solve.max_ns, solve.mean_ns) == (2, 50, 40, 10, 50, 30)
    assert rows["step"].exceptions == 1 and rows["main"].file == "/src/app.py" and rows["main"].line == 3
    assert [r.name for r in trace.top(2, by="count")] == ["step", "Model.solve"] and trace.top(0) == []
    modules = {row.name: row for row in trace.top(group="module")}
    assert modules["app"].count == 3 and modules["app"].total_ns == 100 and modules["app"].self_ns == 80
    assert {r.name: r.count for r in trace.top(group="thread")} == {"MainThread": 5, "worker-1": 2}
    assert sum(r.self_ns for r in trace.top()) == sum(r.self_ns for r in trace.top(group="file"))


def test_processes_of_a_session_are_joined_and_keep_their_ids_apart(tmp_path):
    place = session(tmp_path, pids=(50, 51))
    other = tf.manifest({}, {MAIN: ("other_main", "/x.py", 1)}, {1: "other"}, pid=51)
    (place / "pid_51" / "manifest.json").write_text(json.dumps(other))
    trace = open_trace(place)
    assert trace.info["events"] == 30 and len(trace.processes) == 2
    assert {s.name for s in trace.spans(max_depth=1)} == {"app.main", "lib.step", "other.other_main", "2:0x0"}
    assert len(trace.spans(function="main")) == 1 and len(trace.events(function="other_main")) == 2
    assert len(open_trace(place / "pid_50").threads) == 2


def test_a_session_is_found_from_the_directory_above(tmp_path):
    session(tmp_path)
    assert open_trace(tmp_path).info["note"] is None
    newest = session(tmp_path, "session_20260101_120000_10")
    session(tmp_path, "session_20260101_120000_2")
    trace = open_trace(tmp_path)
    assert trace.path == newest and "newest" in trace.info["note"]


def test_places_without_a_recording(tmp_path):
    with pytest.raises(UsageError, match="not there"):
        open_trace(tmp_path / "none")
    with pytest.raises(FormatError, match="no recording"):
        open_trace(tmp_path)
    place = session(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        open_trace(place / "pid_50" / "manifest.json")


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[1, 2]",
        '{"threads": 5, "symbols": {"a": 1}, "modules": [1, null]}',
        '{"symbols": [{"name": 5, "module_id": -3}, {"function_id": "0xzz"}], "lost": []}',
        "\xff\xfe",
        "[" * 100_000,
    ],
)
def test_no_manifest_stops_the_reading(tmp_path, text):
    path = session(tmp_path) / "pid_50" / "manifest.json"
    path.unlink() if text is None else path.write_bytes(text.encode("latin-1"))
    trace = open_trace(tmp_path)
    assert trace.info["events"] == 15 and trace.info["recovered"]["problems"] and trace.info["lost"] == {"exhausted": 4}
    assert trace.spans()[0].name == "1:0x0" and len(trace.spans(function="1:0x*")) == 3 and len(trace.events(function="2:0x0")) == 5


def test_threads_that_cannot_be_read_are_left_out_and_told(tmp_path):
    place = session(tmp_path) / "pid_50"
    (place / "thread_0" / "index.atf").write_bytes(bytes(500))
    trace = open_trace(tmp_path)
    assert [t.number for t in trace.threads] == [1] and "zeros" in trace.info["recovered"]["problems"][0]
    (place / "thread_1" / "index.atf").unlink()
    assert open_trace(tmp_path).info["events"] == 0  # the manifest still says what the recording was
    (place / "manifest.json").unlink()
    with pytest.raises(FormatError, match="nothing in it can be read"):
        open_trace(tmp_path)


def test_a_recording_is_read_while_it_grows(tmp_path):
    events, _ = main_thread()
    place = tf.write_process(
        tmp_path, os.getpid(), {0: (200, events[:4], ())}, tf.manifest({0: {}}, NAMES, MODULES, status="recording"), finalized=False
    )
    trace = open_trace(place)
    assert trace.info["status"] == "recording" and trace.info["events"] == 4
    assert [s.status for s in trace.spans()] == ["open", "open", "exception"]
    assert trace.refresh() is False
    with open(place / "thread_0" / "index.atf", "ab") as file:
        file.write(b"".join(events[4:]))
    assert trace.refresh() is True
    assert trace.info["events"] == 11 and {s.status for s in trace.spans()} == {"ok", "exception"}


def test_a_recording_whose_process_is_gone_is_interrupted(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    place = tf.write_process(
        tmp_path,
        int(gone.stdout),
        {0: (1, main_thread()[0], ())},
        tf.manifest({0: {}}, NAMES, MODULES, status="recording", pid=int(gone.stdout)),
        finalized=False,
    )
    assert open_trace(place).info["status"] == "interrupted"


def test_broken_links_are_told_and_not_followed(tmp_path):
    events, details = main_thread()
    details[0] = detail(5, 16, pack({"args": {}}))
    place = tf.write_process(
        tmp_path, 3, {0: (200, events, details), 1: (201, [event(5, MAIN, CALL, 1, 0)], ())}, tf.manifest({}, NAMES, MODULES)
    )
    trace = open_trace(place)
    assert trace.spans(function="main", thread=200)[0].args is None and trace.spans(thread=201)[0].args is None
    assert [text.split(": ")[1] for text in trace.check()] == ["1 links to details do not hold"] * 2


def test_native_registers_and_payloads_nobody_can_decode(tmp_path):
    registers = b"".join(v.to_bytes(8, "little") for v in (MAIN, *range(1, 9), 11, 12, 13)) + b"\x02\0\0\0ab"
    events = [event(1, MAIN, CALL, 1, 0), event(2, MAIN, RETURN, 1, 1), event(3, 9, INSTANT, 1, 2), event(4, 9, INSTANT, 1, 3)]
    details = [detail(0, 3, registers), detail(1, 4, registers), detail(2, 19, b"\xc1"), detail(3, 99, b"abc")]
    trace = open_trace(tf.write_process(tmp_path, 3, {0: (200, events, details)}))
    call, back, bad, other = (e.detail for e in trace.events())
    assert call["registers"]["rdi"] == 1 and call["stack"] == b"ab" and call["sp"] == 13 and back["registers"]["rax"] == 1
    assert bad == {"undecodable": b"\xc1"} and other == {"payload": b"abc"}


def test_a_closed_trace_says_so_and_arrays_stay(tmp_path):
    with open_trace(session(tmp_path)) as trace:
        events = trace.threads[0].events
    assert events["timestamp_ns"][0] == 100
    for use in (lambda: trace.info, lambda: trace.events(), lambda: trace.spans(), lambda: trace.refresh()):
        with pytest.raises(UsageError, match="closed"):
            use()


def test_reading_needs_nothing_of_the_live_half(tmp_path):
    session(tmp_path)
    code = f"""
import sys
sys.modules["sysv_ipc"] = None
from atf.trace import open_trace
trace = open_trace({str(tmp_path)!r})
assert trace.info["events"] == 15 and len(trace.spans()) == 7 and trace.top()
seen = {{m.rpartition(".")[2] for m in sys.modules if m.startswith("atf.")}}
assert not seen & {{"recorder", "drain", "segment", "shm", "session", "tracing"}}, seen
"""
    # The same atf as here: installed, or of the source tree.
    subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path(atf.__file__).parents[1])}
    )


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps freed memory")
def test_memory_does_not_grow_with_the_events_read(tmp_path):
    n = 400_000
    rows = numpy.zeros(n, dtype="<u8,<u8,<u4,<u4,<u4,<u4")
    rows["f0"], rows["f1"], rows["f3"], rows["f5"] = numpy.arange(n) + 1, MAIN, 1, tf.NONE
    place = tmp_path / "pid_1"
    for number in range(4):
        (place / f"thread_{number}").mkdir(parents=True)
        (place / f"thread_{number}" / "index.atf").write_bytes(tf.index_bytes([rows.tobytes()], finalized=False))

    def anonymous_bytes():
        return next(
            int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")
        )

    trace = open_trace(place)
    events = trace.events(function="*", kind="call")
    assert sum(len(chunk[0]) for chunk in trace.events(end_ns=1000).chunks()) == 4000
    before = anonymous_bytes()
    assert sum(len(chunk[0]) for chunk in events.chunks()) == len(events) == 4 * n  # 51 MB of files
    assert anonymous_bytes() - before < 12 << 20
