"""Writes a recording of any size: nested calls of 2,000 functions in 50 modules on some threads, the same every time.

    python perf/_synthetic.py DIR --events 10000000 --threads 16

Depth is a random walk between 0 and 40, so that most calls are short and a few are very long; most calls are of few functions
(Zipf). Of 10 M events 5.0 M are spans, about 390,000 of them of function_0, of which about 12,000 take more than 100 µs.
Files are written in pieces: memory does not grow with their size.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy

sys.path.append(str(Path(__file__).resolve().parent.parent))  # last: an installed atf comes before the source tree

from atf._core.layout import EVENT_DTYPE, INDEX_FOOTER, INDEX_HEADER, NO_DETAIL

FUNCTIONS, MODULES, DEEPEST = 2000, 50, 40
PIECE = 1 << 18  # records; each piece begins and ends at depth 0
START_NS = 10**12
STEP_NS = (50, 650)  # between two events of a thread
CALL, RETURN, EXCEPTION = 1, 2, 3
EXCEPTIONS = 1000  # one end in so many is one
PID, FIRST_TID = 1000, 1001
IDS = numpy.array([(k % MODULES + 1) << 32 | k for k in range(FUNCTIONS)], dtype="u8")
_LIKELY = numpy.cumsum(1.0 / numpy.arange(1, FUNCTIONS + 1) ** 0.88)


def depths_of(count: int, rng: numpy.random.Generator) -> numpy.ndarray:
    """Depth after each of `count` (even) steps: a free walk that is folded between 0 and DEEPEST, and ends at 0."""
    tail = min(DEEPEST, count)
    free = numpy.cumsum(rng.integers(0, 2, count - tail, dtype="i4") * 2 - 1)
    depths = numpy.abs((free + DEEPEST) % (2 * DEEPEST) - DEEPEST)
    last = int(depths[-1]) if len(depths) else 0
    return numpy.concatenate([depths, numpy.arange(last - 1, -1, -1), numpy.resize([1, 0], tail - last)]).astype("i4")


def piece(count: int, start_ns: int, tid: int, rng: numpy.random.Generator) -> numpy.ndarray:
    """`count` (even) records of properly nested calls."""
    after = depths_of(count, rng)
    before = numpy.concatenate([numpy.zeros(1, dtype="i4"), after[:-1]])
    is_call = after > before
    events = numpy.zeros(count, dtype=EVENT_DTYPE)
    events["call_depth"] = numpy.maximum(after, before)
    # At one depth calls and returns take turns, so that a call's return is its neighbour once they are sorted by depth.
    order = numpy.argsort(numpy.maximum(after, before).astype("u1"), kind="stable")
    called = IDS[numpy.searchsorted(_LIKELY, rng.random(count // 2) * _LIKELY[-1])]
    ids = numpy.empty(count, dtype="u8")
    ids[order[0::2]] = ids[order[1::2]] = called
    events["function_id"] = ids
    ends = numpy.where(rng.integers(0, EXCEPTIONS, count) == 0, EXCEPTION, RETURN)
    events["event_kind"] = numpy.where(is_call, CALL, ends)
    events["timestamp_ns"] = start_ns + numpy.cumsum(rng.integers(*STEP_NS, count, dtype="u8"))
    events["thread_id"], events["detail_seq"] = tid, NO_DETAIL
    return events


def write_index(path: Path, count: int, number: int) -> None:
    """One finalized index.atf of `count` (even) events."""
    rng, tid = numpy.random.default_rng(number), FIRST_TID + number
    first = last = START_NS + 13 * number
    crc = written = 0
    with open(path, "wb") as file:
        file.write(bytes(64))
        while written < count:
            events = piece(min(PIECE, count - written), last, tid, rng)
            first = first if written else int(events["timestamp_ns"][0])
            last = int(events["timestamp_ns"][-1])
            data = events.tobytes()
            crc = zlib.crc32(data, crc)
            file.write(data)
            written += len(events)
        file.write(struct.pack(INDEX_FOOTER, b"2ITA", crc, count, first, last, 32 * count))
        file.seek(0)
        file.write(struct.pack(INDEX_HEADER, b"ATI2", 1, 1, 1, 4, 0, tid, 3, 0, 32, count, 64, 64 + 32 * count, first, last))


def manifest(threads: int) -> dict:
    modules = [
        {"module_id": m, "name": f"module_{m}", "path": f"/src/module_{m}.py", "base_address": "0x0", "size": 0, "uuid": ""}
        for m in range(1, MODULES + 1)
    ]
    symbols = [
        {
            "function_id": f"0x{i:016x}",
            "module_id": i >> 32,
            "symbol_index": i & 0xFFFFFFFF,
            "name": f"function_{k}",
            "file": f"/src/module_{i >> 32}.py",
            "line": 10 + k,
        }
        for k, i in enumerate(IDS.tolist())
    ]
    said = [{"id": n, "tid": FIRST_TID + n, "name": f"worker-{n}", "has_detail": False, "lost": 0} for n in range(threads)]
    about = {"format_version": "2.1", "clock_type": 3, "pid": PID, "status": "complete", "argv": ["synthetic"], "exit": 0, "lost": {}}
    return {**about, "threads": said, "modules": modules, "symbols": symbols}


def write(root: Path, events: int, threads: int = 16) -> Path:
    """Writes a session of `threads` threads with `events` in all (rounded down to an even number a thread); returns its directory."""
    session = root / "session_20260101_000000"
    process = session / f"pid_{PID}"
    for number in range(threads):
        place = process / f"thread_{number}"
        place.mkdir(parents=True)
        write_index(place / "index.atf", events // threads // 2 * 2, number)
    (process / "manifest.json").write_text(json.dumps(manifest(threads)))
    return session


def main() -> int:
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("directory", type=Path)
    made.add_argument("--events", type=int, default=10_000_000, help="in all (default %(default)s)")
    made.add_argument("--threads", type=int, default=16, help="(default %(default)s)")
    options = made.parse_args()
    print(write(options.directory, options.events, options.threads))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
