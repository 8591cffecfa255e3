"""atf.open: where recordings are found, what is damaged, what grows, and what reading costs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import atf
from atf._core.errors import FormatError, UsageError
from atf.trace import open_trace

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, INSTANT, RETURN, detail, event

from trace_session import MAIN, MODULES, NAMES, main_thread, pack, session

pytestmark = pytest.mark.at_rest


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
