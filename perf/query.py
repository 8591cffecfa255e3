"""The query engine against DuckDB on one recording: pages, slow spans, top functions, over HTTP too; first answers and memory.

Both sides run in turn in one process and their answers are compared. DuckDB has its own tables in memory, with spans matched
already; for top functions without an index it has window SQL over raw events. Through HTTP a client that keeps its connection
asks a server in its own process. A second, larger recording shows what does not grow with size.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import _synthetic
from _bench import Report, Spread, in_turn, parse, parser, ratios
from atf.query.aggregation import aggregate
from _query_sides import EVENTS, EVENTS_ORDER, RAW_TOP, Duck, Engine, Server, cold_ms, forget_indexes, median_ms, request

HOT = int(_synthetic.IDS[0])
SLOW_NS = 100_000


class Question:
    """One question to both. ours and theirs bring the answers into one form."""

    def __init__(self, method: str, params: dict, ours: Callable[[dict], list], statement: str, theirs: Callable[[list], list] = list) -> None:
        self.method, self.params, self.ours, self.statement, self.theirs = method, params, ours, statement, theirs
        self.body = request(method, params)


def event_rows(result: dict) -> list:
    return [(row["timestampNs"], row["threadId"], row["indexSeq"]) for row in result["events"]]


def span_rows(result: dict) -> list:
    return [(row["spanId"], row["durationNs"]) for row in result["spans"]]


def top_rows(result: dict) -> list:
    return [(row["functionName"], *(row[name] for name in ("count", "selfNs", "minNs", "maxNs"))) for row in result["functions"]]


def named(rows: list) -> list:
    return [(f"function_{id & 0xFFFFFFFF}", *map(int, rest)) for id, *rest in rows]


def questions(trace_id: str, info: dict) -> dict[str, Question]:
    middle = (info["timeStartNs"] + info["timeEndNs"]) // 2
    window = {"timeStartNs": middle, "timeEndNs": middle + 1_000_000}
    between = f"timestamp_ns BETWEEN {middle} AND {middle + 1_000_000}"
    seq = {"projection": {"indexSeq": True}}
    slow = {"functionNames": ["function_0"], "minDurationNs": SLOW_NS}
    spans = "SELECT concat(tid, ':', start_ns, ':', call_seq), duration_ns FROM spans WHERE "
    return {
        "page of 50 events after a time": Question(
            "events.get",
            {"traceId": trace_id, "filters": {"timeStartNs": middle}, "limit": 50, **seq},
            event_rows,
            f"{EVENTS} timestamp_ns >= {middle} {EVENTS_ORDER} 50",
        ),
        "one function's events in 1 ms": Question(
            "events.get",
            {"traceId": trace_id, "filters": {**window, "functionNames": ["function_0"]}, "limit": 100, **seq},
            event_rows,
            f"{EVENTS} {between} AND function_id = {HOT} {EVENTS_ORDER} 100",
        ),
        "spans in 1 ms": Question(
            "spans.list",
            {"traceId": trace_id, "filters": window, "limit": 100},
            span_rows,
            f"{spans} start_ns >= {middle} AND end_ns <= {middle + 1_000_000} ORDER BY start_ns, thread, call_seq LIMIT 100",
        ),
        "slow spans of one function": Question(
            "spans.list",
            {"traceId": trace_id, "filters": slow, "orderBy": "duration", "limit": 100},
            span_rows,
            f"{spans} function_id = {HOT} AND duration_ns >= {SLOW_NS} ORDER BY 2 DESC, start_ns DESC, thread DESC, call_seq DESC LIMIT 100",
        ),
        "functions.top": Question(
            "functions.top",
            {"traceId": trace_id, "limit": 10},
            top_rows,
            """SELECT function_id, count(*), sum(self_ns) AS self, min(active_ns), max(active_ns) FROM spans
            GROUP BY 1 ORDER BY self DESC LIMIT 10""",
            named,
        ),
    }


def compare(report: Report, engine: Engine, duck: Duck | None, asked: dict[str, Question], calls: int, rounds: int) -> None:
    """Every question of both in turn, once indexed."""
    if duck is None:
        report.lacks("duckdb")
    cases: dict[str, Callable[[], float]] = {}
    for name, one in asked.items():
        answer = one.ours(engine.ask(one.method, one.params))
        cases[name] = lambda one=one: median_ms(lambda: engine.answer(one.body), calls)
        report.check(bool(answer), f"{name}: there is an answer")
        if duck:
            report.check(answer == one.theirs(list(duck.ask(one.statement))), f"{name}: both answers are the same")
            cases[f"{name}, DuckDB"] = lambda one=one: median_ms(lambda: duck.ask(one.statement), max(1, calls // 5))
    done = in_turn(cases, rounds)
    rows = []
    for name in asked:
        mine, theirs = done[name], done.get(f"{name}, DuckDB")
        report.figure(f"{name} ms", Spread.of(mine))
        if theirs:
            report.figure(f"{name}, DuckDB ms", Spread.of(theirs))
        ratio = ratios(mine, theirs).text("{:.3f}") if theirs else "-"
        rows.append([name, Spread.of(mine).text("{:.2f}"), Spread.of(theirs).text("{:.1f}") if theirs else "-", ratio])
    report.table(["question", "atf, ms", "DuckDB's tables, ms", "atf / DuckDB"], rows)
    for name in asked:
        report.goal(name, Spread.of(done[name]), "≤", 5, " ms")
        if duck:
            report.goal(f"{name}, of DuckDB's time", ratios(done[name], done[f"{name}, DuckDB"]), "≤", 0.1, "", "{:.3f}")


def firsts(report: Report, root: Path, session: Path, duck: Duck | None, asked: dict[str, Question], rounds: int) -> None:
    """Answers that find nothing prepared: no index beside the trace, in a new process; and DuckDB's over raw events."""
    top = asked["functions.top"]
    slow = asked["slow spans of one function"]
    info = request("trace.info", {"traceId": session.name})
    indexed = 0

    def first(body: bytes) -> float:
        nonlocal indexed
        indexed = max(indexed, forget_indexes(session))
        return cold_ms(root, info, body)[1]

    cases: dict[str, Callable[[], float]] = {"top": lambda: first(top.body), "slow": lambda: first(slow.body)}
    cases["top again"] = lambda: cold_ms(root, info, top.body)[1]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cases["at once"] = lambda: median_ms(lambda: aggregate(session, "functions", pool), 1)
        cases["at once, one thread"] = lambda: median_ms(lambda: aggregate(session, "functions"), 1)
        if duck:
            rows = aggregate(session, "functions", pool).rows[:10]
            mine = [(row.key[1], row.count, row.self_ns, row.min_ns, row.max_ns, row.exceptions) for row in rows]
            theirs = named(list(duck.ask(RAW_TOP)))
            near = all(abs(row.quantile_ns(0.95) - p95) <= p95 / 32 for row, (*_, p95) in zip(rows, theirs, strict=True))
            report.check(near and mine == [of[:-1] for of in theirs], "top functions of raw events: both answers are the same")
            cases["raw SQL"] = lambda: median_ms(lambda: duck.ask(RAW_TOP), 1)
        done = in_turn(cases, min(rounds, 3))
    forget_indexes(session)
    report.figure("bytes of index", indexed)
    report.goal("first answer about all spans, nothing indexed (functions.top)", Spread.of(done["top"]), "≤", 1000, " ms", "{:.0f}")
    report.goal("first answer about all spans, nothing indexed (spans.list)", Spread.of(done["slow"]), "≤", 1000, " ms", "{:.0f}")
    report.say(f"  the same in a new process that finds the index: {Spread.of(done['top again']).text('{:.1f}')} ms, {indexed / 1e6:.0f} MB of index")
    report.figure("functions.top in a new process that finds the index ms", Spread.of(done["top again"]))
    for name, words in (("at once", "all cores"), ("at once, one thread", "one thread")):
        report.figure(f"top functions without an index, {words} ms", Spread.of(done[name]))
        report.say(f"  top functions without an index (aggregate), {words}: {Spread.of(done[name]).text('{:.0f}')} ms")
    if duck:
        report.figure("top functions, DuckDB over raw events ms", Spread.of(done["raw SQL"]))
        report.goal("top functions without an index, against DuckDB's SQL on raw events", ratios(done["raw SQL"], done["at once"]), "≥", 30, "×", "{:.1f}")


def over_http(report: Report, server: Server, session: Path, asked: dict[str, Question], calls: int, rounds: int) -> None:
    trace_id = session.name
    page = {"traceId": trace_id, "limit": 50}
    total = json.loads(server.answer(request("events.get", page)))["result"]["metadata"]["totalCount"]

    def cursor_at(offset: int) -> dict:
        """The page at an offset, by the cursor that the page before it gives."""
        before = json.loads(server.answer(request("events.get", {**page, "offset": offset - 50})))["result"]["metadata"]
        return {**page, "cursor": before["nextCursor"]}

    pages = {"first": page, "middle": cursor_at(total // 2), "last": cursor_at(total - 50)}
    bodies = {f"{name} page of 50": request("events.get", params) for name, params in pages.items()}
    last = json.loads(server.answer(bodies["last page of 50"]))["result"]
    report.check(len(last["events"]) == 50 and not last["metadata"]["hasMore"], "the last page is the last")
    bodies["trace.info"] = request("trace.info", {"traceId": trace_id})
    bodies |= {name: one.body for name, one in asked.items()}
    for count in (1000, 10_000):
        params = {"traceId": trace_id, "limit": count, "offset": total // 3, "projection": {"functionName": True, "depth": True}}
        bodies[f"page of {count:,} rows"] = request("events.get", params)
        rows = json.loads(server.answer(bodies[f"page of {count:,} rows"]))["result"]["events"]
        report.check(len(rows) == min(count, total - total // 3), f"a page of {count:,} rows is whole")
    for body in bodies.values():
        server.answer(body)
    done = in_turn({name: lambda body=body: server.times_ms(body, calls) for name, body in bodies.items()}, rounds)
    middle = {name: [statistics.median(times) for times in done[name]] for name in bodies}
    p99 = {name: [sorted(times)[min(len(times) - 1, len(times) * 99 // 100)] for times in done[name]] for name in bodies}
    report.table(["over HTTP", "p50, ms", "p99, ms"], [[n, Spread.of(middle[n]).text(), Spread.of(p99[n]).text()] for n in bodies])
    for name in bodies:
        report.figure(f"{name}, HTTP p50 ms", Spread.of(middle[name]))
        report.figure(f"{name}, HTTP p99 ms", Spread.of(p99[name]))
    report.goal("trace.info over HTTP, p99", Spread.of(p99["trace.info"]), "≤", 10, " ms")
    for name in ("first", "middle", "last"):
        report.goal(f"{name} page of 50 over HTTP, p99", Spread.of(p99[f"{name} page of 50"]), "≤", 10, " ms")
    report.goal("last page against the first", ratios(middle["last page of 50"], middle["first page of 50"]), "≤", 1.5, "×")
    report.goal("page of 1,000 rows, end to end", Spread.of(middle["page of 1,000 rows"]), "≤", 5, " ms")
    report.goal("page of 10,000 rows, end to end", Spread.of(middle["page of 10,000 rows"]), "≤", 40, " ms")


def info_of_sizes(report: Report, engines: dict[str, Engine], calls: int, rounds: int) -> None:
    """trace.info of each size, warm and in a process that has only imported."""
    cases: dict[str, Callable[[], float]] = {}
    for size, engine in engines.items():
        body = request("trace.info", {"traceId": _session(engine.root).name})
        cases[f"trace.info, {size}, warm"] = lambda engine=engine, body=body: median_ms(lambda: engine.answer(body), calls)
        cases[f"trace.info, {size}, cold"] = lambda engine=engine, body=body: cold_ms(engine.root, body)[0]
    done = in_turn(cases, rounds)
    for name, times in done.items():
        report.figure(f"{name} ms", Spread.of(times))
        report.goal(name, Spread.of(times), "≤", 5 if name.endswith("warm") else 20, " ms")


def _session(root: Path) -> Path:
    return next(root.glob("session_*"))


def made(report: Report, place: Path, events: int) -> Path | None:
    """A directory with a recording of so many events, made unless it is there; None: no room."""
    root = place / f"{events}"
    if not root.exists():
        if shutil.disk_usage(place).free < 40 * events:
            report.lacks(f"room for a recording of {events:,} events")
            return None
        _synthetic.write(root, events)
    return root


def main() -> int:
    options = parser(__doc__, rounds=5)
    options.add_argument("--events", type=int, default=10_000_000, help="of the recording (default %(default)s)")
    options.add_argument("--large", type=int, default=100_000_000, help="of the one that trace.info is asked about too; 0: none (default %(default)s)")
    options.add_argument("--dir", type=Path, help="keep the recordings here (41 bytes of disk an event), and use those that are")
    given = parse(options)
    report = Report("query", given)
    events, large, calls = (40_000, 80_000, 3) if given.quick else (given.events, given.large, 25)
    with tempfile.TemporaryDirectory(prefix="atf-perf-") as scratch:
        place = given.dir or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        root = made(report, place, events)
        assert root is not None, "no room on this disk: give --dir or fewer --events"
        run(report, root, made(report, place, large) if large else None, calls, given.rounds)
    return report.finish()


def run(report: Report, root: Path, large: Path | None, calls: int, rounds: int) -> None:
    session, engine = _session(root), Engine(root)
    forget_indexes(session)
    info = engine.ask("trace.info", {"traceId": session.name})
    report.say(f"{info['threadCount']} threads, {info['eventCount']:,} events, {info['files']['eventsSize'] / 1e6:.0f} MB")
    asked = questions(session.name, info)
    engines = {f"{info['eventCount'] / 1e6:g} M events": engine}
    if large:
        count = (other := Engine(large)).ask("trace.info", {"traceId": _session(large).name})["eventCount"]
        engines[f"{count / 1e6:g} M events"] = other
    info_of_sizes(report, engines, calls, rounds)
    server = Server(root)
    try:
        first = server.times_ms(request("trace.info", {"traceId": session.name}), 1)
        report.say(f"  trace.info, the first request that a new server gets: {first[0]:.1f} ms")
        report.figure("trace.info, first request of a new server ms", first[0])
        over_http(report, server, session, asked, calls * 8, rounds)
        report.goal("anonymous memory of the server after all questions", Spread.of([server.anonymous_mb()]), "≤", 200, " MB", "{:.0f}")
    finally:
        report.check(server.stop() == 0, "the server ends with status 0")
    try:
        duck = Duck(session)
        report.figure("DuckDB loads its table of matched spans s", duck.load_spans_s)
    except ImportError:
        duck = None
    compare(report, engine, duck, asked, calls, rounds)
    engine.forget()
    firsts(report, root, session, duck, asked, rounds)


if __name__ == "__main__":
    raise SystemExit(main())
