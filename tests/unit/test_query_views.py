"""What questions to one open trace share, and what they do not wait for."""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
import pytest
import tracefiles as tf
from querying import ask

from atf import trace
from atf.query import traces
from atf.query.traces import Traces


def view_of(root):
    doctraces.write(root)
    return Traces(root).view(doctraces.MONDAY)


def test_a_light_question_does_not_wait_for_a_heavy_one(tmp_path):
    view = view_of(tmp_path)
    begun, end = threading.Event(), threading.Event()

    def heavy(view):
        begun.set()
        assert end.wait(30)
        return len(view.info)  # a value that needs another

    made = []
    asking = threading.Thread(target=lambda: made.append(view.once("heavy", heavy)))
    asking.start()
    assert begun.wait(30)
    light = threading.Thread(target=lambda: made.append(view.start_ns), daemon=True)
    light.start()
    light.join(10)
    waited = light.is_alive()
    end.set()
    asking.join(30)
    assert not waited and len(made) == 2


def test_what_several_ask_for_at_once_is_made_once(tmp_path):
    view = view_of(tmp_path)
    together, made = threading.Barrier(4), []

    def ask():
        together.wait(30)
        found.append(view.once("key", lambda view: made.append(1) or object()))

    found = []
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 1 and len(found) == 4 and len(set(map(id, found))) == 1


def test_what_failed_is_made_at_the_next_question(tmp_path):
    view = view_of(tmp_path)

    def fail(view):
        raise ValueError

    for _ in range(2):
        with pytest.raises(ValueError):
            view.once("key", fail)
    assert view.once("key", lambda view: 5) == 5


def test_what_a_foreign_trace_lost_is_counted_where_that_is_quick(tmp_path, monkeypatch):
    """The manifest does not say it, so that every event would have to be read."""
    gap = tf.event(1010, 7, tf.GAP, depth=1)
    for pid, more in ((50, {}), (51, {"lost": {"exhausted": 2}})):
        events = [tf.event(1000, 1, tf.CALL), gap, tf.event(1020, 1, tf.RETURN)]
        tf.write_process(tmp_path / "s", pid, {0: (pid, events, ())}, tf.manifest({}, {}, {}, pid=pid, **more))
    with trace.open_trace(tmp_path / "s") as opened:
        lost = opened.info["lost"]
    assert sum(lost.values()) == 7 + 2
    monkeypatch.setattr(traces, "_COUNTED_EVENTS", 3)  # as many as the process has whose manifest says nothing
    assert ask(tmp_path, "trace.info", traceId="s")["lost"] == lost
    monkeypatch.setattr(traces, "_COUNTED_EVENTS", 2)
    assert ask(tmp_path, "trace.info", traceId="s")["lost"] is None
    assert ask(tmp_path, "trace.info", traceId="s/pid_51")["lost"] == {"exhausted": 2}


def test_a_cut_file_is_told_in_every_answer(tmp_path):
    """A complete recording says how many events each thread has."""
    events = [tf.event(1000 + at, 1, kind) for at, kind in enumerate([tf.CALL, tf.RETURN] * 4)]
    place = tf.write_process(tmp_path / "s", 50, {0: (50, events, ())}, tf.manifest({0: {"events": 8}}, {}, {}, pid=50))
    assert "problems" not in ask(tmp_path, "events.get", traceId="s")["metadata"]
    assert "cannot be read" not in ask(tmp_path, "trace.summary", traceId="s")["text"]
    index = place / "thread_0" / "index.atf"
    index.write_bytes(index.read_bytes()[: 64 + 3 * 32])
    said = "pid 50: thread_0: has 3 of the 8 events that were recorded: its file was cut"
    assert ask(tmp_path, "trace.info", traceId="s")["recovered"]["problems"] == [said]
    for method in ("events.get", "spans.list", "functions.top"):
        assert ask(tmp_path, method, traceId="s")["metadata"]["problems"] == [said]
    claim = ask(tmp_path, "trace.summary", traceId="s", maxTokens=200)["claims"][1]
    assert claim["kind"] == "lost" and claim["text"] == f"cannot be read: {said}"
