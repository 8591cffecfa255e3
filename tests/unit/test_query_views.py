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
