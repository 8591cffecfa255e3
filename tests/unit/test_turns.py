"""Whoever wants what the drain's thread holds gets it after the ring that it is at, however much there is to read."""

import os
import subprocess
import sys
import threading
import time

from native_harness import DRAIN, ROOT, assert_clean, builder, run

from atf._core import drain, segment

ASKED, FLOODS = 300, 3
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
        time.sleep(0.0005)  # the drain is somewhere else each time


def test_a_flood_does_not_keep_others_from_the_drain(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen([sys.executable, "-c", FLOOD], **pipes) for _ in range(FLOODS)]
    engine, sources, segments = drain.Drain(), [], []
    engine.flight("windows", 1, 1, 16 << 20)  # nothing goes to the disk
    engine.rules([("mark", "", 0)])
    try:
        for number, child in enumerate(children):
            made = segment.SegmentSet.attach(tuple(map(int, child.stdout.readline().split())))
            made.remove()
            (tmp_path / str(number)).mkdir()
            segments.append(made)
            sources.append(drain.Source(made.segments, tmp_path / str(number)))
            engine.add(sources[-1])
        engine.start()
        begun = engine.cycles
        while any(not (rows := source.threads()) or min(row["produced"] for row in rows) < 10_000 for source in sources):
            assert all(child.poll() is None for child in children)
        asking = threading.Thread(target=ask, args=(engine,))
        asking.start()
        asking.join()
        # The pass that is under way, and one that begins before the asking is seen; one more for each time that the system leaves who
        # asks without a processor for as long as the drain waits. Without turns it is dozens or hundreds.
        assert engine.let_by <= 8
        while engine.cycles < begun + ASKED // 2:  # and those who ask do not keep the drain from its work
            engine.windows()
    finally:
        for child in children:
            child.stdin.close()
            child.stdout.close()
            assert child.wait(30) == 0
    engine.join()
    for source in sources:
        engine.finish(source, dead=True)
        assert all(row["produced"] == row["unkept"] + sum(row["lost"].values()) for row in source.threads())
    for made in segments:
        made.detach()


def test_a_caller_who_is_slow_to_come_is_waited_for(tmp_path_factory, tmp_path):
    program = builder(tmp_path_factory.mktemp("turns"), [ROOT / "tests/native/turns.c", *DRAIN])("plain")
    assert_clean(run(program, "", tmp_path))
