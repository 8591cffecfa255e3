"""Programs of known events, and what a slice says of them."""

import queue
import threading
import time

import pytest

import atf
from atf._core import recorder
from atf.slices import Slices

INSTANT, GAP = 4, 8
NUMBERED = 1 << 20  # function ids from here on tell the number of a bare record


class Worker(threading.Thread):
    """A thread that does what it is told, and tells when it is done."""

    def __init__(self):
        super().__init__(daemon=True)
        self.asked, self.done = queue.SimpleQueue(), queue.SimpleQueue()
        self.start()

    def run(self):
        while (wanted := self.asked.get()) is not None:
            self.done.put(wanted())

    def do(self, wanted):
        self.asked.put(wanted)
        return self.done.get(timeout=20)

    def end(self):
        self.asked.put(None)
        self.join(20)
        time.sleep(0.001)  # its slot is left by a destructor of the thread library, after Python's join


@pytest.fixture(name="slices")
def beginning():
    made = []

    def begin(**config):
        made.append(Slices(None, {"python": False, **config}))
        made[-1].begin()
        return made[-1]

    yield begin
    for one in made:
        one.end()


def write(first, count, details=False):
    for number in range(first, first + count):
        if details:
            atf.event("numbered", number=number)
        else:
            recorder.record(INSTANT, NUMBERED + number)


def read(path):
    """{tid: [number, or None where its detail is gone, or ("gap", n)]} of a trace, which must be whole."""
    found = {}
    with atf.open(path) as trace:
        assert trace.check() == [] and trace.status == "complete" and trace.info["recovered"] == {"files": [], "problems": []}
        for thread in trace.threads:
            assert thread.index.report.status == "finalized"
            times = thread.events["timestamp_ns"].tolist()
            assert times == sorted(times)
            rows = found.setdefault(thread.tid, [])
            for position, event in enumerate(thread.events):
                if event["event_kind"] == GAP:
                    rows.append(("gap", int(event["function_id"])))
                elif event["function_id"] >= NUMBERED:
                    rows.append(int(event["function_id"]) - NUMBERED)
                else:
                    detail = thread.detail_of(position, int(event["detail_seq"]))
                    rows.append(detail["attributes"]["number"] if detail else None)
    return found
