"""Runs one program under one recorder, in this process, and writes what it took to a file. Started by python_calls.py.

    python perf/_child.py PROGRAM TOOL RESULT [--quick] [--runs N] [--check]

The program runs once before the recorder is on and once after (code is specialized, buffers are touched), then `runs`
times with the clock; the recorder stays on between them. With --check it runs once, and says what was recorded.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import time
from pathlib import Path

import _bench  # noqa: F401  finds atf in the source tree
import _tools

STREAMED = "atf streaming"  # the recorder is outside: this process runs below `atf record`


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("tool")
    parser.add_argument("result", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    program = importlib.import_module(f"programs.{options.program}")
    size = program.QUICK if options.quick else program.FULL
    streamed = options.tool == STREAMED
    tool = _tools.make("untraced" if streamed else options.tool, options.result.parent, options.check)
    if streamed and options.check:
        import atf

    checksum = program.main(size)
    tool.start()
    if not options.check:
        program.main(size)
    samples = []
    for _ in range(1 if options.check else options.runs):
        gc.collect()
        tool.between()
        if streamed and options.check:
            atf.event("perf.begin")
        wall, cpu, thread = time.perf_counter_ns(), time.process_time_ns(), time.thread_time_ns()
        found = program.main(size)
        samples.append([time.perf_counter_ns() - wall, time.process_time_ns() - cpu, time.thread_time_ns() - thread])
        if streamed and options.check:
            atf.event("perf.end")
        if found != checksum or found != program.CHECKSUMS[size]:
            raise SystemExit(f"{options.program} under {options.tool}: checksum {found}, not {program.CHECKSUMS[size]}")
    stop = time.perf_counter_ns()
    tool.stop()
    stop = time.perf_counter_ns() - stop
    recorded = tool.recorded() if options.check else None
    options.result.write_text(json.dumps({"samples": samples, "stop_ns": stop, "recorded": recorded}))


if __name__ == "__main__":
    main()
