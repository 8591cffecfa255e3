"""What the numbers of `atf stat` cost each recorded event: to count them, and to ask for them.

A thread writes records in C as fast as it can and the drain takes them, three times in turn: with the drain as it is and somebody who asks
for all numbers ten times a second; as it is and nobody asks; and compiled from the same sources without the statements that count.
CPU time of the producer, the drain and the asker together, over the records. Once to files, once with windows that keep nothing, where the
drain counts an event at a time.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _bench import ROOT, Report, Spread, in_turn, parse, parser

RECORDS = {"full": 4_000_000, "quick": 50_000}
COUNTS = re.compile(r"^\s*(?:[os]->m\.\w+ ?(?:\+\+|--|[-+]?= )[^;{}]*;|if \([^()]* > [os]->m\.\w+\) [os]->m\.\w+ = \w+;)", re.MULTILINE)
ASKS_PER_SECOND = 10


def sources() -> list[str]:
    """What the drain and a producer consist of, as the build names it."""
    said = re.search(r"^DRAIN = (\(.*?\))$", (ROOT / "setup.py").read_text(), re.MULTILINE | re.DOTALL)
    assert said is not None
    return [f"{name}.c" for name in dict.fromkeys((*ast.literal_eval(said[1]), "producer", "detail", "joint"))]


def build(scratch: Path, name: str, counting: bool) -> tuple[Path, int]:
    """The program, and how many statements that count were taken out of it."""
    tree, taken = scratch / name, 0
    shutil.copytree(ROOT / "_core", tree / "_core", ignore=shutil.ignore_patterns("*.so", "*.pyx", "__pycache__"))
    for file in ("perf/native/counting.c", "tests/native/session.h"):
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tree / file)
    if not counting:
        for each in sources():
            text, here = COUNTS.subn("", (tree / "_core" / each).read_text())
            (tree / "_core" / each).write_text(text)
            taken += here
    files = [tree / "_core" / each for each in sources() if (tree / "_core" / each).exists()]
    command = ["cc", "-O3", "-D_GNU_SOURCE", "-fno-strict-aliasing", "-w", f"-I{tree / '_core'}", tree / "perf/native/counting.c", *files, "-pthread"]
    subprocess.run([*map(str, command), "-o", str(tree / "program")], check=True)
    return tree / "program", taken


def once(program: Path, scratch: Path, records: int, keep: str, asks: int) -> dict:
    place = Path(tempfile.mkdtemp(dir=scratch))
    done = subprocess.run([program, place, str(records), keep, str(asks)], check=True, capture_output=True, text=True)
    shutil.rmtree(place)
    return json.loads(done.stdout)


def main() -> int:
    options = parse(parser(__doc__, rounds=15))
    report = Report("counting", options)
    records = RECORDS["quick" if options.quick else "full"]
    if not shutil.which("cc"):
        report.lacks("there is no C compiler")
        return report.finish()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # files there: a disk's own time is not the question
    scratch = Path(tempfile.mkdtemp(prefix="atf-perf-", dir=memory))
    try:
        (counting, _), (silent, taken) = build(scratch, "counting", True), build(scratch, "silent", False)
        report.check(taken > 15, f"only {taken} statements that count were found")
        cases = {
            (keep, name): lambda keep=keep, program=program, asks=asks: once(program, scratch, records, keep, asks)
            for keep in ("files", "windows")
            for name, program, asks in (("silent", silent, 0), ("counting", counting, 0), ("asked", counting, ASKS_PER_SECOND))
        }
        results = in_turn(cases, options.rounds)
    finally:
        shutil.rmtree(scratch)
    rows = []
    for (keep, name), passes in results.items():
        for done in passes:
            report.check(done["seen"] == 2 * records, f"{keep}, {name}: {done['seen']} of {2 * records} records were seen")
        report.check(options.quick or name != "asked" or min(done["asked"] for done in passes) > 0, f"{keep}: nobody asked")
        each = [Spread.of(done[part] / records for done in passes) for part in ("producer_ns", "drain_ns", "asker_ns")]
        rows.append([f"{keep}, {name}", *(one.text("{:.2f}") for one in each)])
        report.figure(f"{keep} {name}", [one.json() for one in each])
    report.table([f"CPU ns a record ({2 * records} records; the drain's are of both rounds)", "producer", "drain", "asker"], rows)
    for keep in ("files", "windows"):
        silent_, counting_ = ([total(done, records) for done in results[keep, name]] for name in ("silent", "counting"))
        report.goal(f"counting, {keep}", Spread.of(more - less for more, less in zip(counting_, silent_, strict=True)), "≤", 1, " ns")
        asker = Spread.of(done["asker_ns"] / (2 * records) for done in results[keep, "asked"])
        report.goal(f"asking ten times a second, {keep}: the asker's own time", asker, "≤", 1, " ns", "{:.4f}")
    return report.finish()


def total(done: dict, records: int) -> float:
    return done["producer_ns"] / records + (done["drain_ns"] + done["asker_ns"]) / (2 * records)


if __name__ == "__main__":
    sys.exit(main())
