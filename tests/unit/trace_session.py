"""A session made byte by byte, for the tests of opened recordings."""

import sys
from pathlib import Path

import msgspec


sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, EXCEPTION, GAP, INSTANT, RETURN, detail, event
pack = msgspec.msgpack.encode
# The user's name has the number that the gap counts: one is not the other.
MAIN, SOLVE, STEP, USER = 1 << 32, 1 << 32 | 1, 2 << 32, 4
NAMES = {
    MAIN: ("main", "/src/app.py", 3),
    SOLVE: ("Model.solve", "/src/app.py", 9),
    STEP: ("step", "/src/lib.py", 1),
    USER: ("load", "", 0),
}
MODULES = {1: "app", 2: "lib"}


def main_thread():
    events = [
        event(100, MAIN, CALL, 1, 0),
        event(110, SOLVE, CALL, 2),
        event(120, STEP, CALL, 3),
        event(130, STEP, EXCEPTION, 3, 1),
        event(140, SOLVE, CALL, 3),
        event(150, SOLVE, RETURN, 3),
        event(160, SOLVE, RETURN, 2),
        event(165, USER, CALL, 2, 2),
        event(170, USER, INSTANT, 2, 3),
        event(175, USER, RETURN, 2),
        event(200, MAIN, RETURN, 1, 4),
    ]
    details = [
        detail(0, 16, pack({"args": {"n": 3, "who": {"~": "app.Model"}}})),
        detail(3, 18, pack({"type": "builtins.ValueError", "message": "no"})),
        detail(7, 19, pack({"name": "load", "attributes": {"file": "a.txt"}})),
        detail(8, 19, pack({"name": "hit", "attributes": {"rows": 2}})),
        detail(10, 17, pack({"value": [1, 2]})),
    ]
    return events, details


def worker(tid=201):
    return [
        event(105, STEP, CALL, 1, tid=tid),
        event(125, STEP, RETURN, 1, tid=tid),
        event(150, STEP, CALL, 1, tid=tid),
        event(155, 4, GAP, 1, tid=tid),
    ], ()


def session(root, name="session_20260101_120000", pids=(50,), **more):
    place = root / name
    for pid in pids:
        said = {0: {"tid": 200, "name": "MainThread"}, 1: {"tid": 201, "name": "worker-1", "lost": 4}}
        content = tf.manifest(said, NAMES, MODULES, pid=pid, argv=["app.py", "x"], exit=0, python="3.11.7", lost={"exhausted": 4}, **more)
        tf.write_process(place, pid, {0: (200, *main_thread()), 1: (201, *worker())}, content)
    return place
