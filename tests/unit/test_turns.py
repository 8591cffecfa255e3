"""Whoever wants what the drain's thread holds gets it after the ring that it is at, however much there is to read."""

import os
import subprocess
import sys
import threading

from atf._core import drain, segment

ASKED = 500
FLOOD = """
import sys, threading
from atf._core import recorder, segment

rings = {"slots": 8, "index_rings": 2, "index_bytes": 32768, "detail_rings": 0, "spare_rings": 0}
made = segment.SegmentSet.create(options=rings)
recorder.open_session(made.segments)
print(*made.ids, flush=True)
running = True

def flood():
    while running:
        for _ in range(10000):
            recorder.record(4, 1)

threads = [threading.Thread(target=flood) for _ in range(2)]
for thread in threads:
    thread.start()
sys.stdin.read()
running = False
for thread in threads:
    thread.join()
recorder.close_session()
"""


def ask(engine):
    """As one whom the system lets wait behind all others."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    for _ in range(ASKED):
        engine.windows()


def test_a_flood_does_not_keep_others_from_the_drain(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", FLOOD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    made = None
    try:
        made = segment.SegmentSet.attach(tuple(map(int, child.stdout.readline().split())))
        made.remove()
        engine, source = drain.Drain(), drain.Source(made.segments, tmp_path)
        engine.flight("windows", 1, 1, 16 << 20)  # nothing goes to the disk
        engine.rules([("mark", "", 0)])
        engine.add(source)
        engine.start()
        begun = engine.cycles
        while not source.threads() or min(thread["produced"] for thread in source.threads()) < 10_000:
            assert child.poll() is None
        asking = threading.Thread(target=ask, args=(engine,))
        asking.start()
        asking.join()
        # The pass that is under way, and one that begins before the asking is seen.
        assert engine.let_by <= 2
        while engine.cycles < begun + ASKED // 2:  # and those who ask do not keep the drain from its work
            engine.windows()
    finally:
        child.stdin.close()
        child.stdout.close()
        assert child.wait(30) == 0
    engine.join()
    engine.finish(source, dead=True)
    assert all(thread["produced"] == thread["unkept"] + sum(thread["lost"].values()) for thread in source.threads())
    made.detach()
