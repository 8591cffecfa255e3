"""Random call trees, written as traces byte by byte, and what is asked of windows, answered slowly by walking the trees."""

import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, EXCEPTION, RETURN

NAMES = ("shop.tax.rate", "shop.db.get", "shop.db.put", "shop.views.item", "log.write")
IDS = {name: 1 + at << 32 for at, name in enumerate(NAMES)}
STEP_NS = 10



@st.composite
def forests(draw, most=9, names=NAMES):
    """Lists of (name, list of the same, whether it raises): each next call is made by one of those that are open, or by nobody."""
    roots, ways = [], []
    for _ in range(draw(st.integers(0, most))):
        del ways[draw(st.integers(0, len(ways))) :]
        node = (draw(st.sampled_from(names)), [], draw(st.booleans()))
        (ways[-1][1] if ways else roots).append(node)
        ways.append(node)
    return roots


programs = st.lists(forests(), min_size=1, max_size=2)


@dataclass(eq=False)
class Node:
    """thread: its number. seq: of its CALL in its thread."""

    name: str
    thread: int
    caller: "Node | None"
    start: int = 0
    end: int = 0
    seq: int = 0
    raised: bool = False
    calls: "list[Node]" = field(default_factory=list)

    def callers(self):
        found = self.caller
        while found is not None:
            yield found
            found = found.caller


def play(program, begin=1000):
    """([events of each thread], all nodes by time). Threads take turns: no two events have one time."""
    events, nodes = [], []
    for number, forest in enumerate(program):
        own, now = [], begin + number

        def call(name, below, raises, caller, number=number, own=own):
            nonlocal now
            node = Node(name, number, caller, now, seq=len(own), raised=raises)
            nodes.append(node)
            if caller is not None:
                caller.calls.append(node)
            depth = 1 + sum(1 for _ in node.callers())
            own.append(tf.event(now, IDS[name], CALL, depth, tid=100 + number))
            now += STEP_NS
            for child in below:
                call(*child, node)
            node.end = now
            own.append(tf.event(now, IDS[name], EXCEPTION if raises else RETURN, depth, tid=100 + number))
            now += STEP_NS

        for one in forest:
            call(*one, None)
        events.append(own)
    return events, sorted(nodes, key=lambda node: (node.start, node.thread))


def write(place, events, of_threads=(), **more):
    """A session of one process with these events; returns its directory. of_threads: {number: what else the manifest says of a thread}."""
    threads = {number: (100 + number, own, ()) for number, own in enumerate(events)}
    symbols = {id: (name.rpartition(".")[2], f"/src/{name}.py", 1) for name, id in IDS.items()}
    modules = {id >> 32: name.rpartition(".")[0] for name, id in IDS.items()}
    said = {number: {"tid": 100 + number, "name": f"worker-{number}", **dict(of_threads).get(number, {})} for number in threads}
    tf.write_process(place, 50, threads, tf.manifest(said, symbols, modules, pid=50, **{"level": "returns", **more}))
    return place


def fits(node, pattern):
    return fnmatchcase(node.name, pattern) or fnmatchcase(node.name.rpartition(".")[2], pattern)


def calls(nodes, pattern, under=None, window=(0, 1 << 63)):
    return [
        n
        for n in nodes
        if window[0] <= n.start < window[1] and fits(n, pattern) and (under is None or any(fits(above, under) for above in n.callers()))
    ]


def max_per(found, parent):
    nearest = [next((above for above in n.callers() if fits(above, parent)), None) for n in found]
    return max((nearest.count(one) for one in nearest if one is not None), default=0)


def in_order(nodes, patterns):
    """Whether some nodes fit the patterns, each behind the one before."""
    if not patterns:
        return True
    return any(fits(n, patterns[0]) and in_order(nodes[at + 1 :], patterns[1:]) for at, n in enumerate(nodes))


def strictly(nodes, patterns):
    chosen = [n for n in nodes if any(fits(n, p) for p in patterns)]
    return len(chosen) == len(patterns) and all(fits(n, p) for n, p in zip(chosen, patterns))


def directly(before, after, nodes):
    """Whether `after` is the first call that `before` made, or followed it with nothing but the calls of `before` between them."""
    if before.thread != after.thread or after.start <= before.start:
        return False
    between = [n for n in nodes if n.thread == before.thread and before.start < n.start < after.start]
    if before in after.callers():
        return not between
    return all(before in n.callers() for n in between)


def immediately(nodes, patterns, everything):
    ways = [[n] for n in nodes if fits(n, patterns[0])]
    for pattern in patterns[1:]:
        ways = [[*way, n] for way in ways for n in nodes if fits(n, pattern) and directly(way[-1], n, everything)]
    return bool(ways)
