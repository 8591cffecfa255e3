"""Kills programs while they record, and compares what they had counted with what is in the files."""

import os
import random
import struct
import subprocess
import time

from agent_bench import LIBRARY

CALL, GAP = 1, 8


def kill_once(bench, program, modules, number, threads, how, lagging=False):
    """FORBIDDEN: a call that was over before the end came and is neither in the files nor in a gap; one that nobody made.

    lagging: the drain does not begin before the program is dead. how: seconds until SIGKILL.
    """
    pages = bench.path / f"pages{number}"
    pages.write_bytes(bytes(4096 * threads))
    policy = "drop-oldest" if lagging else "block"
    with bench.session(modules, policy=policy, slots=8, index_bytes=1 << 18, started=not lagging) as (_, plan, take_in, gatherer):
        environment = {**os.environ, "LD_PRELOAD": str(LIBRARY), "ATF_AGENT": plan.path}
        process = subprocess.Popen([program, pages, str(threads)], env=environment)
        take_in(process.pid)
        deadline = time.monotonic() + 20
        while not any(struct.unpack_from("<q", pages.read_bytes(), 4096 * i)[0] for i in range(threads)) and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(how)
        process.kill()
        process.wait()
        gatherer.start()
        while gatherer.live:
            gatherer.poll()
            time.sleep(0.001)
        identifier = next(key for key, name in plan.names.items() if name == "work")
    counted = {tid: n for n, tid in (struct.unpack_from("<qq", pages.read_bytes(), 4096 * i) for i in range(threads)) if tid}
    pages.unlink()
    lost = 0
    with bench.opened() as trace:
        assert trace.check() == []
        found = {thread.tid: thread.events for thread in trace.threads}
        for tid, calls in counted.items():
            events = found.get(tid)
            assert events is not None or not calls, f"thread {tid} made {calls} calls and is not there"
            if events is None:
                continue
            mine = events["function_id"] == identifier
            made = int((mine & (events["event_kind"] == CALL)).sum())
            gaps = events["event_kind"] == GAP
            gone = int(events["function_id"][gaps].sum())
            lost += gone
            if not gone:
                assert calls <= made <= calls + 1, f"thread {tid}: {calls} calls were over, {made} were recorded"
            records = len(events) - int(gaps.sum()) + gone  # of counts() itself one
            assert 2 * calls <= records - 1 <= 2 * calls + 2, f"thread {tid}: {calls} calls were over, {records} records are accounted for"
    assert lagging or not lost
    return sum(counted.values()), lost


def moments(seed, n, least=0.0, most=0.03):
    chosen = random.Random(seed)
    return [least + chosen.random() * (most - least) for _ in range(n)]
