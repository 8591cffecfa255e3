"""A recording of this process with its drain beside it: names, details, status and stop, while threads come and go.

Under ThreadSanitizer (make tsan) FORBIDDEN: any report. Always FORBIDDEN under ``block``: a record that is not in the
trace, or one that is there twice.
"""

import json
import subprocess
import sys
import threading

import pytest

import atf
from atf._core import drain, recorder, ring, segment

pytestmark = pytest.mark.tsan


def busy(count):
    for number in range(count):
        if number % 5:
            recorder.record(4, 1)
        else:
            atf.event("tick", number=number, text="x" * (number % 50))


@pytest.mark.parametrize("policy", ["block", "drop-oldest"])
def test_drain_beside_threads(tmp_path, policy):
    options = {"slots": 3, "index_rings": 3, "index_bytes": 8192, "detail_rings": 2, "detail_bytes": 16384, "global_cells": 64, "names_bytes": 4096}
    made = segment.SegmentSet.create(options=options, policy=policy)
    made.remove()
    engine, source = drain.Drain(flush_ns=1_000_000), drain.Source(made.segments, tmp_path)
    engine.add(source)
    engine.start()
    recorder.open_session(made.segments)
    try:
        for generation in range(3):
            threads = [threading.Thread(target=busy, args=(3000,), name=f"busy {generation}.{k}") for k in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                assert source.totals["disk_error"] is None
                assert all(one["events"] >= one["details"] for one in source.threads())
                assert made.segments.info["drain_passes"] >= 0 and engine.cpu_ns >= 0
                made.segments.slots()
                threads[0].join(0.001)
            for thread in threads:
                thread.join()
    finally:
        recorder.close_session()
        engine.join()
        engine.finish(source)
    found = source.threads()
    info = made.segments.info
    made.detach()
    assert len(found) == 12
    assert all(one["finished"] for one in found)
    written = sum(one["events"] for one in found)
    if policy == "block":
        assert written == 12 * 3000 and not any(one["lost"] for one in found)
        assert {one["name"] for one in found} >= {f"busy {generation}.0" for generation in range(3)} or info["slotless_threads"]


@pytest.mark.stress
@pytest.mark.parametrize("pause_s", [0, 0.01, 0.3])
def test_bursts_with_the_defaults(tmp_path, pause_s):
    """FORBIDDEN: an event lost of a program that makes less than its spare rings hold, at whatever pace. 3.6 million events
    have 115 MB, the spare rings of a machine that is not small 128 MB."""
    program = (
        f"import time\ndef leaf(): pass\nfor _ in range(6):\n    for _ in range(300_000): leaf()\n    time.sleep({pause_s})\n"
    )
    command = [sys.executable, "-m", "atf", "record", "--json", "--out", str(tmp_path), "--", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    summary = json.loads(done.stderr.splitlines()[-1])
    assert summary["lost"] == {} and summary["events"] >= 3_600_000


def test_pair_and_files(tmp_path):
    assert ring.pair(50_000, True, 1 << 14)["checksum_ok"]
    assert ring.through_files(50_000, tmp_path, "block", 3, 1 << 13)["lost"] == 0
