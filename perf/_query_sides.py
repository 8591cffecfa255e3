"""The two sides of query.py: atf's engine, in this process and behind HTTP, and DuckDB on the same recording.

DuckDB gets what it likes best: its own tables, in memory, loaded from the same records before the clock starts, with spans that
are matched already.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _bench import ROOT

ANSWER_BYTES = 8 << 20  # so that a page of 10,000 rows is not shortened

COLD = """
import sys, time
import atf.trace
from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.rpc import Rpc
from atf.query.traces import Traces
root, *bodies = sys.argv[1:]
traces, rpc = Traces(root), Rpc(all_methods())
for body in bodies:
    began = time.perf_counter_ns()
    answer = rpc.answer(body.encode(), Context(traces))
    print(time.perf_counter_ns() - began)
    assert b'"result"' in answer.body, answer.body
"""


def request(method: str, params: dict) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))}


def median_ms(run: Callable[[], object], times: int) -> float:
    """Of so many runs, or of those of one second."""
    found: list[float] = []
    give_up = time.monotonic() + 1
    while len(found) < times and (not found or time.monotonic() < give_up):
        began = time.perf_counter_ns()
        run()
        found.append((time.perf_counter_ns() - began) / 1e6)
    return statistics.median(found)


class Engine:
    """The methods in this process: bytes of a request in, bytes of the answer out."""

    def __init__(self, root: Path) -> None:
        from atf.query.methods import all_methods
        from atf.query.rpc import Rpc

        self.root, self.rpc = root, Rpc(all_methods())
        self.forget()

    def forget(self) -> None:
        """Closes the traces: the next question is the first."""
        from atf.query.traces import Traces

        self.traces = Traces(self.root)

    def answer(self, body: bytes) -> bytes:
        from atf.query.context import Context

        found = self.rpc.answer(body, Context(self.traces, answer_bytes=ANSWER_BYTES)).body
        assert found is not None
        return found

    def ask(self, method: str, params: dict) -> dict:
        answer = json.loads(self.answer(request(method, params)))
        assert "result" in answer, answer
        return answer["result"]


def cold_ms(root: Path, *bodies: bytes) -> list[float]:
    """What each request takes in a process that has done nothing but import."""
    run = [sys.executable, "-c", COLD, str(root), *(body.decode() for body in bodies)]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, check=True)
    return [int(line) / 1e6 for line in done.stdout.split()]


class Server:
    """`python -m atf.query --trace-root` in its own process, and one connection to it that is kept."""

    def __init__(self, root: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        options = ["--trace-root", str(root), "--port", str(port), "--rate", "0", "--max-answer", str(ANSWER_BYTES), "--timeout", "120"]
        self.process = subprocess.Popen([sys.executable, "-m", "atf.query", *options], env=environment(), stdout=subprocess.DEVNULL)
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        give_up = time.monotonic() + 30
        while True:
            try:
                self.connection.connect()
                break
            except OSError:
                self.connection.close()
                if time.monotonic() > give_up or self.process.poll() is not None:
                    raise
                time.sleep(0.05)
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def answer(self, body: bytes) -> bytes:
        self.connection.request("POST", "/rpc", body, {"Content-Type": "application/json"})
        reply = self.connection.getresponse()
        content = reply.read()
        assert reply.status == 200, (reply.status, content)
        return content

    def times_ms(self, body: bytes, times: int) -> list[float]:
        """So many times, or for two seconds."""
        found: list[float] = []
        give_up = time.monotonic() + 2
        while len(found) < times and (not found or time.monotonic() < give_up):
            began = time.perf_counter_ns()
            content = self.answer(body)
            found.append((time.perf_counter_ns() - began) / 1e6)
            assert b'"result"' in content[:100], content[:300]
        return found

    def anonymous_mb(self) -> float:
        """Memory of the process that is no file's (RssAnon)."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1000

    def stop(self) -> int:
        self.connection.close()
        self.process.terminate()
        return self.process.wait(30)


def forget_indexes(session: Path) -> int:
    """Removes what was derived from a recording and kept beside it; how many bytes it had."""
    found = 0
    for place in sorted(session.rglob("*"), reverse=True):
        if place.is_file() and place.name not in ("manifest.json", "index.atf", "detail.atf"):
            found += place.stat().st_size
            place.unlink()
        elif place.is_dir() and not place.name.startswith(("pid_", "thread_")):
            shutil.rmtree(place)
    return found


RAW_TOP = """
WITH closed AS (
    SELECT thread, call_depth, index_seq, function_id, event_kind, lead(event_kind) OVER same_depth = 3 AS raised,
        lead(timestamp_ns) OVER same_depth - timestamp_ns AS duration
    FROM events WINDOW same_depth AS (PARTITION BY thread, call_depth ORDER BY index_seq)),
calls AS (SELECT * FROM closed WHERE event_kind = 1),
sums AS (
    SELECT function_id, count(*) AS count, sum(duration) AS total, min(duration) AS least, max(duration) AS most,
        count(*) FILTER (raised) AS exceptions, quantile_disc(duration, 0.95) AS p95
    FROM calls GROUP BY 1),
inner_sums AS (
    SELECT above.function_id, sum(calls.duration) AS total FROM calls ASOF JOIN calls AS above
    ON calls.thread = above.thread AND calls.call_depth - 1 = above.call_depth AND calls.index_seq > above.index_seq GROUP BY 1)
SELECT function_id, sums.count, sums.total - coalesce(inner_sums.total, 0) AS self, least, most, exceptions, p95
FROM sums LEFT JOIN inner_sums USING (function_id) ORDER BY self DESC LIMIT 10
"""
EVENTS = "SELECT timestamp_ns, tid, index_seq FROM events WHERE "
EVENTS_ORDER = " ORDER BY timestamp_ns, thread, index_seq LIMIT "


class Duck:
    """DuckDB with `events` and `spans` as its own tables."""

    def __init__(self, session: Path) -> None:
        import duckdb

        from atf.query.sql import open_tables
        from atf.trace import open_trace

        self.con = duckdb.connect(":memory:")
        with open_trace(session) as trace:
            for t in trace.threads:
                columns = ("timestamp_ns", "function_id", "event_kind", "call_depth")
                self.con.register("records", {name: t.events[name] for name in columns})
                what = f"SELECT {t.position}::UTINYINT AS thread, {t.tid}::UINTEGER AS tid, (row_number() OVER () - 1)::UINTEGER AS index_seq, *"
                self.con.execute(("INSERT INTO events " if t.position else "CREATE TABLE events AS ") + f"{what} FROM records")
            matched = open_tables(trace, "spans")
            spans = matched.execute("""SELECT thread::UTINYINT AS thread, tid::UINTEGER AS tid, call_seq, start_ns, end_ns, duration_ns,
                active_ns, self_ns, depth, status = 'exception' AS raised, function_id FROM spans""").fetchnumpy()
            matched.close()
            self.con.register("matched", spans)
            began = time.perf_counter()
            self.con.execute("CREATE TABLE spans AS SELECT * FROM matched")
            self.load_spans_s = time.perf_counter() - began
            self.con.unregister("matched")

    def ask(self, statement: str) -> Sequence[tuple[Any, ...]]:
        return self.con.execute(statement).fetchall()
