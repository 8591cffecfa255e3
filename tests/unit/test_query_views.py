"""What questions to one open trace share, and what they do not wait for."""

import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces

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
        try:
            view.once("key", fail)
        except ValueError:
            continue
        raise AssertionError("no error came")
    assert view.once("key", lambda view: 5) == 5
