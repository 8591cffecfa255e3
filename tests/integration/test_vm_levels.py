"""Levels that change while a program runs: every call is there, with its caller, and nothing looks like an error that was none."""

import random
import sys
import threading

import pytest
from vm_recording import load, recording

from atf._core.spans import STATUS, match

SHAPES = """
def ran(plan):
    down(plan, 0)

def down(plan, depth):
    for step in plan(depth):
        if step == "call": deeper(plan, depth + 1)
        elif step == "raise": refused(plan, depth + 1)

def deeper(plan, depth):
    note("call", "deeper")
    down_2(plan, depth)
    note("return", "deeper")

def down_2(plan, depth):
    note("call", "down_2")
    for step in plan(depth):
        if step == "call": deeper(plan, depth + 1)
        elif step == "raise":
            try: refused(plan, depth + 1)
            except KeyError: pass
    note("return", "down_2")

def refused(plan, depth):
    note("call", "refused")
    if depth < 8: deeper(plan, depth + 1)
    note("exception", "refused")
    raise KeyError(depth)

def steps():
    for n in range(4):
        note("", "")
        yield n

def loops():
    note("call", "loops")
    for _ in range(20):
        for _n in steps(): pass
    note("return", "loops")
"""


class Truth:
    """What the program says of itself, and when levels change: at any of its own moments, by chance."""

    def __init__(self, seed, wanted):
        self.rng, self.wanted, self.set_level = random.Random(seed), wanted, None
        self.level = wanted
        self.calls, self.open = [], []  # [name, caller's position or None, status]
        self.budget = 400

    def note(self, kind, name):
        if kind == "call":
            self.calls.append([name, self.open[-1] if self.open else None, None])
            self.open.append(len(self.calls) - 1)
        if self.rng.random() < 0.2:
            self.level = self.rng.choice(["calls", "returns", self.wanted])
            self.set_level(self.level)
        if kind in ("return", "exception"):
            status = {"return": "ok", "exception": "exception"}[kind]
            self.calls[self.open.pop()][2] = "untimed" if self.level == "calls" else status

    def plan(self, depth):
        for _ in range(self.rng.randrange(3)):
            self.budget -= 1
            if depth < 8 and self.budget > 0:
                yield self.rng.choice(["call", "call", "raise"])


def spans(events, names):
    """Calls of the shapes that the truth knows, as the matcher finds them: [name, caller's position or None, status]."""
    columns = match([events], [int(events["timestamp_ns"][-1])], [0])
    known, rows = [], {}
    for row in range(len(columns.call_seq)):
        name = names(columns.function_ids[int(columns.function[row])]).rpartition(".")[2]
        if name in ("deeper", "down_2", "refused", "loops"):
            parent = int(columns.parent[row])
            rows[row] = len(known)
            known.append([name, rows.get(parent), STATUS[int(columns.status[row])]])
    return known, columns


@pytest.mark.parametrize("wanted", ["returns", "args"])
@pytest.mark.parametrize("seed", range(8))
def test_calls_keep_their_callers_and_their_ends(tmp_path, seed, wanted):
    truth = Truth(seed, wanted)
    shapes = load(SHAPES, note=truth.note)
    plan = truth.plan
    with recording(tmp_path, level=wanted) as done:
        truth.set_level = done.set_level
        while truth.budget > 0 and len(truth.calls) < 300:
            shapes["deeper"](plan, 0)
        shapes["loops"]()
        done.set_level("returns")
        shapes["note"] = None
    found, columns = spans(done.threads[0], done.name)
    assert found == truth.calls
    told = {STATUS[int(status)] for status in columns.status}
    assert told <= {"ok", "exception", "untimed"} and "untimed" in told, "no call looks like one that was cut off"
    starts, ends = columns.start_ns, columns.end_ns
    for row, parent in enumerate(columns.parent.tolist()):
        assert ends[row] >= starts[row]
        if parent >= 0 and "steps" not in done.name(columns.function_ids[int(columns.function[parent])]):
            assert starts[parent] <= starts[row]


def test_each_thread_is_told_before_its_next_event(tmp_path):
    shapes = load("def f(): pass\ndef turn(go, went):\n    for one, other in zip(go, went):\n        one.acquire(); f(); other.release()\n")
    turns = 4
    go, went = ([[threading.Semaphore(0) for _ in range(turns)] for _ in range(2)] for _ in range(2))
    threads = [threading.Thread(target=shapes["turn"], args=(go[i], went[i])) for i in range(2)]
    with recording(tmp_path) as done:
        for thread in threads:
            thread.start()
        for number in range(turns):
            for i in range(2):
                go[i][number].release()
                went[i][number].acquire()
            done.set_level(("calls", "returns")[number % 2])
        for thread in threads:
            thread.join()
    for thread in (0, 1):
        lines = [line.strip() for line in done.lines(thread)]
        f = ["call f", "return f"]
        down, up = "instant atf.level calls".rpartition(".")[2], "level returns"
        told = [line.replace("instant ", "") for line in lines if "level" in line]
        assert told[:3] == [down, up, down], told
        marks = [i for i, line in enumerate(lines) if "level" in line]
        assert [line for line in lines[: marks[0]] if line in f] == f
        assert [line for line in lines[marks[0] : marks[1]] if line in f] == f[:1]
        assert [line for line in lines[marks[1] : marks[2]] if line in f] == f


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the frame evaluator sees no C functions")
def test_c_functions_change_with_the_rest(tmp_path):
    shapes = load("def f(n): return len('abc') + abs(n)\n")
    with recording(tmp_path, level="c") as done:
        shapes["f"](1)
        done.set_level("calls")
        shapes["f"](2)
        done.set_level("c")
        shapes["f"](3)
    lines = [line.strip().replace("builtins:", "") for line in done.lines(0)]
    whole = ["call f", "call len", "return len", "call abs", "return abs", "return f"]
    first, second = (i for i, line in enumerate(lines) if "level" in line)
    keep = set(whole)
    assert [line for line in lines[:first] if line in keep] == whole
    assert [line for line in lines[first:second] if line in keep] == ["call f", "call len", "call abs"]
    assert [line for line in lines[second:] if line in keep] == whole
