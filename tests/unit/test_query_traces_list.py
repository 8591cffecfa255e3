"""traces.list, and the samples of trace.info."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
import eventcases
import tracefiles as tf
from querying import ask, refused, walk

from atf import trace
from atf.query.traces import Traces


def make(root, name, mtime, events=3, **more):
    place = root / name
    tf.write_process(place, 50, {0: (100, [tf.event(1000 + i, 1, 1) for i in range(events)], ())}, tf.manifest({}, {}, {}, pid=50, argv=["app.py", "a b"], **more))
    for path in (place / "pid_50" / "manifest.json", place / "pid_50", place):
        os.utime(path, (mtime, mtime))
    return place


def names(result):
    return [row["traceId"] for row in result["traces"]]


def test_the_newest_first_with_what_is_in_them(tmp_path):
    doctraces.write(tmp_path)
    make(tmp_path, "session_20200101_000000", 1_900_000_000)
    make(tmp_path, "imported run", 1_000_000_000, events=0)
    got = ask(tmp_path, "traces.list")
    assert names(got) == ["session_20200101_000000", doctraces.TUESDAY, doctraces.MONDAY, "imported run"]
    row = got["traces"][2]
    info = ask(tmp_path, "trace.info", traceId=doctraces.MONDAY)
    assert (row["timeStartNs"], row["durationNs"], row["eventCount"]) == (info["timeStartNs"], info["durationNs"], info["eventCount"])
    assert (row["threadCount"], row["status"], row["sizeBytes"]) == (info["threadCount"], info["status"], info["files"]["totalSize"])
    assert row["modified"] == "2026-01-05T19:06:40Z" and row["growing"] is False and "problems" not in row
    assert row["processCount"] == 2
    assert row["processes"][1] == {"traceId": f"{doctraces.MONDAY}/pid_411", "processId": 411, "status": "complete", "command": "python printer.py"}
    assert ask(tmp_path, "trace.info", traceId=row["processes"][1]["traceId"])["eventCount"] == 22
    assert got["traces"][0]["processes"][0]["command"] == "app.py 'a b'"
    empty = got["traces"][3]
    assert (empty["timeStartNs"], empty["durationNs"], empty["eventCount"], empty["threadCount"]) == (None, None, 0, 1)
    assert got["metadata"]["totalCount"] == 4 and got["metadata"]["limit"] == 100 and not got["metadata"]["hasMore"]
    for row in got["traces"]:
        assert ask(tmp_path, "events.get", traceId=row["traceId"])["metadata"]["totalCount"] == row["eventCount"]


def test_damage_is_listed_and_ends_nothing(tmp_path):
    make(tmp_path, "session_20260101_000001", 10)
    one = make(tmp_path, "session_20260101_000002", 20)
    tf.write_thread(one / "pid_50", 1, [tf.event(5, 1, 1)])
    (one / "pid_50" / "thread_1" / "index.atf").write_bytes(b"ATI2 but no more")
    two = make(tmp_path, "session_20260101_000003", 30)
    (two / "pid_50" / "thread_0" / "index.atf").write_bytes(b"")
    (two / "pid_50" / "manifest.json").write_bytes(b"[")
    three = make(tmp_path, "session_20260101_000004", 40)
    (three / "pid_50" / "manifest.json").unlink()
    (tmp_path / "session_20260101_000005").mkdir()  # nothing yet: no trace
    (tmp_path / "notes.txt").write_text("no trace")
    (tmp_path / ".hidden").mkdir()
    for place, mtime in ((one, 20), (two, 30), (three, 40)):
        for path in (*place.rglob("*"), place):
            os.utime(path, (mtime, mtime))
    rows = {row["traceId"][-1]: row for row in ask(tmp_path, "traces.list")["traces"]}
    assert list(rows) == ["4", "3", "2", "1"]
    assert rows["3"]["status"] == "damaged" and "nothing in it can be read" in rows["3"]["problems"][0] and rows["3"]["eventCount"] == 0
    assert rows["2"]["eventCount"] == 3 and "thread_1" in rows["2"]["problems"][0]
    assert rows["4"]["status"] == "unknown" and "manifest" in rows["4"]["problems"][0]
    assert "problems" not in rows["1"]
    assert refused(tmp_path, "events.get", traceId="session_20260101_000003").code == -32004


def test_pages_offsets_and_columns(tmp_path):
    for n in range(23):
        make(tmp_path, f"session_20260101_{n:06d}" if n % 3 else f"run-{n}-" + "x" * 60, 1_000 + n // 4)
    traces = Traces(tmp_path)
    whole = names(ask(traces, "traces.list"))
    assert len(whole) == 23 == len(set(whole))
    times = [row["modified"] for row in ask(traces, "traces.list")["traces"]]
    assert times == sorted(times, reverse=True)
    for limit in (1, 4, 22, 23):
        assert [row["traceId"] for row in walk(traces, "traces.list", "traces", limit=limit)] == whole
    assert names(ask(traces, "traces.list", offset=5, limit=3)) == whole[5:8]
    columns = ask(traces, "traces.list", shape="columns")["traces"]
    assert columns["traceId"] == whole and set(map(len, columns.values())) == {23}
    short = ask(traces, "traces.list", answer_bytes=3000)
    assert short["metadata"]["didTruncate"] and names(short) == whole[: short["metadata"]["returnedCount"]]
    # A cursor is a place in the order: what comes to the front later does not move it.
    first = ask(traces, "traces.list", limit=10)
    make(tmp_path, "session_20270101_000000", 2_000_000_000)
    assert names(ask(traces, "traces.list", cursor=first["metadata"]["nextCursor"])) == whole[10:]
    assert refused(traces, "traces.list", cursor="garbage").code == -32602
    assert refused(traces, "traces.list", cursor=first["metadata"]["nextCursor"], offset=1).code == -32602


def test_rows_are_read_again_when_files_change_and_only_then(tmp_path, monkeypatch):
    traces, opened, real = Traces(tmp_path), [], trace.open_trace
    monkeypatch.setattr(trace, "open_trace", lambda place: opened.append(place.name) or real(place))
    make(tmp_path, "session_20260101_000001", 10)
    make(tmp_path, "session_20260101_000002", 9)
    for _ in range(3):
        assert ask(traces, "traces.list")["traces"][0]["eventCount"] == 3
    assert opened == ["session_20260101_000001", "session_20260101_000002"]
    make(tmp_path, "session_20260101_000001", 10, events=5)
    assert ask(traces, "traces.list")["traces"][0]["eventCount"] == 5
    assert opened[2:] == ["session_20260101_000001"]


def test_a_recording_that_goes_on_until_its_process_is_gone(tmp_path):
    traces = Traces(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        content = tf.manifest({}, {}, {}, pid=process.pid, status="recording")
        tf.write_process(tmp_path / "session_20260101_000001", process.pid, {0: (100, [tf.event(7, 1, 1)], ())}, content, finalized=False)
        row = ask(traces, "traces.list")["traces"][0]
        assert (row["status"], row["growing"], row["eventCount"]) == ("recording", True, 1)
        process.communicate(b"\n")
    row = ask(traces, "traces.list")["traces"][0]
    assert (row["status"], row["growing"], row["eventCount"]) == ("interrupted", False, 1)


def test_an_empty_root_and_links_that_leave_it(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    assert ask(root, "traces.list")["traces"] == []
    assert ask(tmp_path / "none", "traces.list")["metadata"]["totalCount"] == 0
    make(tmp_path, "outside", 10)
    make(root, "inside", 10)
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "in").symlink_to(root / "inside")
    assert sorted(names(ask(root, "traces.list"))) == ["in", "inside"]


@pytest.mark.parametrize("most", [0, 3, 60])
def test_samples(tmp_path, most):
    rows = eventcases.write(tmp_path, 0, most=most) if most else []
    if not most:
        make(tmp_path, "session_20260101_120000", 10, events=0)
    want = [(r.time, r.tid, r.seq) for r in eventcases.chosen(rows, {})]
    got = ask(tmp_path, "trace.info", traceId="session_20260101_120000", includeSamples=True)["samples"]

    def keys(name):
        return [(e["timestampNs"], e["threadId"], int(e["eventId"].split(":")[1])) for e in got[name]]

    assert keys("firstEvents") == want[:5]
    assert keys("lastEvents") == want[-5:]
    chosen = keys("randomEvents")
    assert len(chosen) == min(5, len(want)) == len(set(chosen)) and set(chosen) <= set(want) and chosen == sorted(chosen, key=want.index)
    again = ask(Traces(tmp_path), "trace.info", traceId="session_20260101_120000", include_samples=True)["samples"]
    assert again == got
    assert "samples" not in ask(tmp_path, "trace.info", traceId="session_20260101_120000")
