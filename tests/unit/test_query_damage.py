"""Traces that are cut, deleted or damaged while a real server answers questions about them."""

import os
import shutil
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
import tracefiles as tf
from query_server import call, serving, JSON

from atf.query.methods import all_methods
from atf.query.params import fields_of

EVENTS = 60_000


def write(root, name="session_20260101_120000"):
    """A session with two threads of EVENTS events each."""
    function = 1 << 32
    content = tf.manifest({n: {"tid": 100 + n, "name": f"t{n}"} for n in range(2)}, {function: ("work", "/srv/w.py", 1)}, {1: "w"}, pid=7)
    threads = {
        n: (100 + n, [tf.event(1000 + i, function, tf.CALL if i % 2 == 0 else tf.RETURN, 1, tid=100 + n) for i in range(EVENTS)], ()) for n in range(2)
    }
    tf.write_process(root / name, 7, threads, content)
    return root / name


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("traces"), "--rate", "0", misbehaving=True) as server:
        yield server


@pytest.fixture
def place(server):
    root = Path(server.process.args[server.process.args.index("--trace-root") + 1])
    yield write(root)
    shutil.rmtree(root / "session_20260101_120000", ignore_errors=True)


def during_a_scan(server, place, change):
    """What a long question about the trace is answered while `change()` happens."""
    answer = []
    scanning, stop = place.parent / "scanning", place.parent / "stop"
    for mark in (scanning, stop):
        mark.unlink(missing_ok=True)

    def scan():
        with httpx.Client(timeout=30) as client:
            answer.append(server.post(client, "test.scan", {"traceId": place.name, "amount": 9}))

    thread = threading.Thread(target=scan)
    thread.start()
    until = time.monotonic() + 20
    while not scanning.exists() and time.monotonic() < until:
        time.sleep(0.01)
    change()
    stop.touch()
    thread.join()
    return answer[0]


@pytest.mark.parametrize("left", [0, 64, 4096, 100_000])
def test_cut_while_it_is_read(server, place, left):
    index = place / "pid_7/thread_1/index.atf"
    said = during_a_scan(server, place, lambda: os.truncate(index, left))
    assert said["error"]["code"] == -32004
    data = said["error"]["data"]
    assert (data["traceId"], data["events"]) == (place.name, 2 * EVENTS)
    kept = max(0, left - 64) // 32
    assert data["recovered"] == EVENTS + kept
    assert "was cut" in data["reason"]
    assert "ask again" in data["hint"]
    with httpx.Client(timeout=30) as client:
        info = server.post(client, "trace.info", {"traceId": place.name})["result"]
        assert info["eventCount"] == EVENTS + kept
        assert server.post(client, "test.scan", {"traceId": place.name, "amount": 9})["result"] > 0


def test_cut_within_its_last_page(server, place):
    """No page is gone then: the rest of the last one reads as zeros, and only the size tells."""
    index = place / "pid_7/thread_1/index.atf"
    said = during_a_scan(server, place, lambda: os.truncate(index, index.stat().st_size - 100))
    assert said["error"]["code"] == -32004


def test_deleted_while_it_is_read(server, place):
    said = during_a_scan(server, place, lambda: shutil.rmtree(place))
    assert said["result"] == EVENTS * 3  # the files live as long as they are mapped
    with httpx.Client() as client:
        assert server.post(client, "trace.info", {"traceId": place.name})["error"]["code"] == -32000


def test_replaced_while_it_is_read(server, place):
    def replace():
        shutil.rmtree(place)
        os.rename(write(place.parent, "other"), place)
        os.truncate(place / "pid_7/thread_1/index.atf", 64 + 320)

    assert during_a_scan(server, place, replace)["result"] == EVENTS * 3
    with httpx.Client() as client:
        assert server.post(client, "trace.info", {"traceId": place.name})["result"]["eventCount"] == EVENTS + 10


GIVEN = {"other": "session_20260101_120000", "requestId": "r-1", "spanId": "100:1000:0", "eventId": "100:5"}
TOLD = {0, -32000, -32003, -32004}


def questions(trace_id):
    """(method, params, codes that may be answered) of every method that can be asked about a trace with what is GIVEN."""
    for method in all_methods():
        fields = fields_of(method.params)
        known = {"traceId": trace_id, **GIVEN}
        if "traceId" in fields and all(name in known for name, (one, _) in fields.items() if one.required):
            params = {name: known[name] for name in fields if name in known}
            yield method.name, params, TOLD | ({-32602} if {"spanId", "eventId"} & set(params) else set())  # it may have gone


def test_every_method_while_files_come_and_go(server, place):
    (place.parent / "stop").touch()
    keep = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    faults, stop = [], threading.Event()
    asked = [*questions(place.name), ("test.scan", {"traceId": place.name, "amount": 1}, TOLD)]

    def ask(method, params, codes):
        with httpx.Client(timeout=60) as client:
            while not stop.is_set():
                said = client.post(server.url, content=call(method, params), headers=JSON).json()
                if said.get("error", {}).get("code", 0) not in codes:
                    faults.append((method, said))

    threads = [threading.Thread(target=ask, args=question) for question in asked]
    for each in threads:
        each.start()
    for n in range(14):
        for path, content in keep.items():
            cut = len(content) * (n * 7 % 10) // 10
            if n % 4 == 3:
                path.unlink()
            else:
                os.truncate(path, cut)
            time.sleep(0.03)
        for path, content in keep.items():
            path.write_bytes(content)
        time.sleep(0.03)
    stop.set()
    for each in threads:
        each.join()
    assert faults == []
    with httpx.Client(timeout=30) as client:
        assert server.post(client, "trace.info", {"traceId": place.name})["result"]["eventCount"] == 2 * EVENTS
        healed = [line for line in client.get(server.url.replace("rpc", "metrics")).text.splitlines() if line.startswith("atf_query_page_faults_healed_total")]
    assert int(healed[0].split()[1]) > 0


DAMAGE = [
    ("manifest.json", b""), ("manifest.json", b"\x00" * 500), ("manifest.json", b"[" * 100_000), ("manifest.json", b"[]"), ("manifest.json", b"\xff\xfe{}"),
    ("manifest.json", b'{"symbols": [{"function_id": "0x100000000", "name": "half \\ud800 pair"}], "modules": [{"module_id": 1, "name": "\\udfff"}], "argv": ["\\ud800"]}'),
    ("manifest.json", b'{"threads": [{"id": 0, "tid": 1e400}], "argv": 7, "symbols": 7, "modules": {"a": 1}, "lost": {"x": 1e99}, "clock": [], "os": {}}'),
    ("thread_0/index.atf", b""), ("thread_0/index.atf", b"\x00" * 4096), ("thread_1/index.atf", b"ATI2" + b"\xff" * 4000),
]


@pytest.mark.parametrize(("name", "content"), DAMAGE, ids=[f"{name}:{content[:12]!r}" for name, content in DAMAGE])
def test_damaged_before_it_is_asked(server, place, name, content):
    (place / "pid_7" / name).write_bytes(content)
    with httpx.Client(timeout=30) as client:
        for method, params, codes in questions(place.name):
            said = server.post(client, method, params)
            assert said.get("error", {}).get("code", 0) in codes - {-32000, -32003}, (method, said)


def test_the_document_traces_are_whole(tmp_path):
    """What the other tests damage is not what the documents run on."""
    import atf

    for place in doctraces.write(tmp_path):
        with atf.open(place) as trace:
            assert trace.check() == []
