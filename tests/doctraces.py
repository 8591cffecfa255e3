"""The traces that the examples of the documents run on: two evenings of a small shop, written event by event, always the same.

`write(root)` makes two sessions below `root`. Each has process 410 "shop" (MainThread, till 1, till 2) and its child 411 "printer":

- session_20260105_180000: complete. Orders are handled by two tills; one is refused (BadOrder), a generator reads the lines, every
  order is a span of the user's with a request_id, receipts are printed by the other process under the same request_id; till 2 lost 7 events.
- session_20260106_180000: the same evening after a change: `discount` is slower and calls itself more often, `audit` is new, nothing is
  lost, no order is refused.

`python tests/doctraces.py DIR` writes them to a directory, to be looked at by hand.
"""

import os
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
import tracefiles as tf
from tracefiles import CALL, EXCEPTION, GAP, INSTANT, NONE, RESUME, RETURN, YIELD

MONDAY, TUESDAY = "session_20260105_180000", "session_20260106_180000"
START_NS = 5_000_000_000_000  # the machine had been up for 5,000 s
NAMES = {  # name: (module, file, line)
    "main": ("shop", "/srv/shop/shop.py", 80),
    "rows": ("shop", "/srv/shop/shop.py", 20),
    "worker": ("shop", "/srv/shop/shop.py", 60),
    "handle": ("shop", "/srv/shop/shop.py", 48),
    "parse": ("orders", "/srv/shop/orders.py", 12),
    "check": ("orders", "/srv/shop/orders.py", 25),
    "price": ("prices", "/srv/shop/prices.py", 30),
    "Table.line": ("prices", "/srv/shop/prices.py", 18),
    "discount": ("prices", "/srv/shop/prices.py", 9),
    "audit": ("orders", "/srv/shop/orders.py", 51),
    "serve": ("printer", "/srv/shop/printer.py", 40),
    "receipt": ("printer", "/srv/shop/printer.py", 22),
    "order": ("", "", 0),  # a span of the user's
    "sold out": ("", "", 0),  # an event of the user's
}
MODULES = {1: "shop", 2: "orders", 3: "prices", 4: "printer"}
_OF = {name: number for number, name in MODULES.items()}
IDS = {name: _OF.get(where[0], 0) << 32 | at for at, (name, where) in enumerate(NAMES.items(), 1)}


class Tape:
    """One thread while it runs: its clock, its stack, its events and details."""

    def __init__(self, tid, start_us):
        self.tid, self.now, self.stack, self.events, self.details = tid, START_NS + start_us * 1000, [], [], []

    def add(self, kind, function_id, depth, us, type=None, said=None):
        self.now += int(us * 1000)
        if type is not None:
            self.details.append(tf.detail(len(self.events), type, msgspec.msgpack.encode(said), self.now, self.tid))
        link = len(self.details) - 1 if type is not None else NONE
        self.events.append(tf.event(self.now, function_id, kind, depth, link, self.tid))

    def call(self, name, us=1, attributes=None, args=None):
        self.stack.append(name)
        if attributes is not None:
            self.add(CALL, IDS[name], len(self.stack), us, 19, {"name": name, "attributes": attributes})
        else:
            self.add(CALL, IDS[name], len(self.stack), us, *((16, {"args": args}) if args else ()))

    def leave(self, us=1, value=None):
        self.add(RETURN, IDS[self.stack[-1]], len(self.stack), us, *((17, {"value": value}) if value is not None else ()))
        self.stack.pop()

    def fail(self, us, type, message):
        self.add(EXCEPTION, IDS[self.stack[-1]], len(self.stack), us, 18, {"type": type, "message": message})
        self.stack.pop()

    def leaf(self, name, us, **more):
        self.call(name, **more)
        self.leave(us)

    def suspend(self, us=1):
        self.add(YIELD, IDS[self.stack[-1]], len(self.stack), us)
        self.stack.pop()

    def resume(self, name, us=1):
        self.stack.append(name)
        self.add(RESUME, IDS[name], len(self.stack), us)

    def note(self, name, attributes, us=1):
        self.add(INSTANT, IDS[name], len(self.stack), us, 19, {"name": name, "attributes": attributes})

    def gap(self, lost, us=1):
        self.add(GAP, lost, 1, us)  # reason 1: the ring was full


def main_thread(tuesday):
    tape = Tape(410, 0)
    tape.call("main")
    for number in range(6):
        tape.call("rows", 2) if number == 0 else tape.resume("rows", 2)
        tape.suspend(3)
    tape.resume("rows")
    tape.leave(1)
    tape.now += 900_000  # waits for the tills
    tape.leave(4, value=6)
    return tape


def discount(tape, amount, us):
    tape.call("discount", 1)
    if amount > 1:
        discount(tape, amount - 1, us)
    tape.leave(us)


def handle(tape, number, amounts, tuesday):
    tape.call("order", 3, attributes={"request_id": f"r-{number}", "items": len(amounts)})
    tape.call("handle", 1, args={"line": f"order {number}"})
    tape.leaf("parse", 6)
    tape.call("check")
    if number == 4 and not tuesday:
        tape.fail(2, "orders.BadOrder", "order 4: there is no caviar")
        tape.note("sold out", {"request_id": "r-4", "item": "caviar"})
    else:
        tape.leave(2)
        tape.call("price", 2)
        for amount in amounts:
            tape.call("Table.line", 1)
            discount(tape, amount + (2 if tuesday else 0), 9 if tuesday else 2)
            tape.leave(3)
        tape.leave(2, value=sum(amounts) * 125)
        if tuesday:
            tape.leaf("audit", 4)
    tape.leave(1)
    tape.leave(1)


def till(tid, start_us, orders, tuesday, lost=0):
    tape = Tape(tid, start_us)
    tape.call("worker")
    for position, (number, amounts) in enumerate(orders):
        if lost and position == 2:
            tape.gap(lost, 5)
        handle(tape, number, amounts, tuesday)
        tape.now += 40_000  # waits for the next
    tape.leave(1)
    return tape


def printer(numbers, start_us=150):
    tape = Tape(411, start_us)
    tape.call("serve")
    for number in numbers:
        tape.call("order", 60, attributes={"request_id": f"r-{number}"})
        tape.leaf("receipt", 25, args={"number": number})
        tape.leave(1)
    tape.leave(1)
    return tape


def _process(session, pid, parent, script, tapes, lost, wall_ns):
    """tapes: {thread name: Tape}."""
    threads = {
        n: {"tid": tape.tid, "name": name, "has_detail": bool(tape.details), "lost": lost if name == "till 2" else 0, "entered": 0}
        for n, (name, tape) in enumerate(tapes.items())
    }
    used = {int.from_bytes(event[8:16], "little") for tape in tapes.values() for event in tape.events if event[20] != GAP}
    symbols = {IDS[name]: (name, file, line) for name, (_, file, line) in NAMES.items() if IDS[name] in used}
    modules = {number: name for number, name in MODULES.items() if any(id >> 32 == number for id in used)}
    more = {
        "pid": pid,
        "parent_pid": parent,
        "argv": ["python", script],
        "exit": 0,
        "python": "3.11.7",
        "os": "linux",
        "arch": "x86_64",
        "level": "args",
        "lost": {"exhausted": lost} if lost else {},
        "windows": [],
        "clock": {"anchors": [[START_NS, wall_ns]]},
    }
    content = tf.manifest(threads, symbols, modules, **more)
    tf.write_process(session, pid, {n: (t.tid, t.events, t.details) for n, t in enumerate(tapes.values())}, content)


def write(root):
    """Both sessions below `root`, with fixed times of change. Returns [their directories]."""
    wall = 1_767_636_000_000_000_000  # 2026-01-05 18:00 UTC
    for day, name in enumerate((MONDAY, TUESDAY)):
        tuesday, lost = bool(day), 0 if day else 7
        tapes = {
            "MainThread": main_thread(tuesday),
            "till 1": till(421, 20, [(1, (2, 1)), (3, (4,)), (5, (1, 1, 3))], tuesday),
            "till 2": till(422, 25, [(2, (1,)), (4, (2, 2)), (6, (3,))], tuesday, lost),
        }
        _process(Path(root, name), 410, 400, "shop.py", tapes, lost, wall + day * 86_400_000_000_000)
        numbers = (1, 2, 3, 4, 5, 6) if tuesday else (1, 2, 3, 5, 6)
        _process(Path(root, name), 411, 410, "printer.py", {"MainThread": printer(numbers)}, 0, wall + day * 86_400_000_000_000)
    for path in Path(root).rglob("*"):
        os.utime(path, (1_767_640_000, 1_767_640_000))
    return [Path(root, MONDAY), Path(root, TUESDAY)]


if __name__ == "__main__":
    for place in write(sys.argv[1]):
        print(place)
