"""Twenty questions about recordings that have everything in them, asked of atf over JSON-RPC, of DuckDB, and of slow Python.

The slow Python (tests/oracle.py) reads what the test wrote, and shares no code with the reader, the matcher or the methods.
"""

import sys
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest

from atf.query import sql
from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.rpc import Rpc
from atf.query.traces import Traces
from atf.trace import open_trace

sys.path.insert(0, str(Path(__file__).parents[1]))
import mixed_traces
import oracle
from oracle import CALL, EXCEPTION, GAP, INSTANT, RESUME, RETURN, SIGNAL, YIELD

pytest.importorskip("duckdb")

SEEDS = range(3)
WORDS = {CALL: "FunctionCall", RETURN: "FunctionReturn", EXCEPTION: "Exception", INSTANT: "Instant", YIELD: "Yield", RESUME: "Resume"}
WORDS |= {SIGNAL: "SignalDelivery", GAP: "Gap"}
KINDS = {CALL: "call", RETURN: "return", EXCEPTION: "exception", INSTANT: "instant", YIELD: "yield", RESUME: "resume", SIGNAL: "signal", GAP: "gap"}
GROUP = {"function": "name, module", "module": "module", "thread": "tid"}
LABELS = {"function": ("functionName", "moduleName"), "module": ("moduleName",), "thread": ("threadId",)}


class World:
    """One recording and the three that are asked about it."""

    def __init__(self, root, seed):
        self.session, self.written = mixed_traces.write(root, seed)
        self.rpc, self.traces = Rpc(all_methods()), Traces(root)
        self.trace = open_trace(self.session)
        self.ends = mixed_traces.times(self.written)
        self.events = sorted(
            (time, thread, seq, kind, function, depth)
            for thread, one in enumerate(self.written)
            for seq, (time, function, _, kind, depth, _) in enumerate(one.events)
        )
        found = [oracle.spans([one.events], self.ends[one.pid]) for one in self.written]
        self.spans = [(thread, span) for thread, (rows, _) in enumerate(found) for _, span in rows]
        self.counts = {name: sum(counts[name] for _, counts in found) for name in found[0][1]}

    def ask(self, method, **params):
        body = msgspec.json.encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"traceId": self.session.name, **params}})
        answer = msgspec.json.decode(self.rpc.answer(body, Context(self.traces)).body)
        assert "result" in answer, answer
        return answer["result"]

    def all(self, method, member, **params):
        """All rows of a listing, by its cursors."""
        rows, cursor = [], {}
        while True:
            result = self.ask(method, limit=37, **cursor, **params)
            rows += result[member]
            if not result["metadata"]["hasMore"]:
                assert len(rows) == result["metadata"]["totalCount"]
                return rows
            cursor = {"cursor": result["metadata"]["nextCursor"]}

    def sql(self, statement):
        return sql.ask(self.trace, statement, 100_000).rows

    def id(self, thread, span):
        return f"{self.written[thread].tid}:{span.start}:{span.call_seq}"

    def name(self, thread, span):
        """(module, name) of a span's function."""
        return self.written[thread].named(span.function)[:2]

    def key(self, group, thread, span):
        module, name = self.name(thread, span)
        return {"function": (name, module), "module": (module,), "thread": (self.written[thread].tid,)}[group]

    def sums(self, group):
        """{key: [count, total, self, min, max, exceptions, active, p95]} in slow Python."""
        result = oracle.totals(self.spans, lambda thread, span: self.key(group, thread, span))
        times = defaultdict(list)
        for thread, span in self.spans:
            times[self.key(group, thread, span)].append(span.active)
        return {key: [*sums, sorted(times[key])[-(-len(times[key]) * 95 // 100) - 1]] for key, sums in result.items()}


QUESTIONS = []


def question(text):
    def add(ask):
        QUESTIONS.append(pytest.param(ask, id=text.replace(" ", "-")))
        return ask

    return add


def own_ns(span):
    return max(0, span.active - span.above)


@question("how many events of each kind")
def _(w):
    atf = {kind: w.ask("events.get", filters={"eventTypes": [word]}, limit=1)["metadata"]["totalCount"] for kind, word in WORDS.items()}
    duck = dict(w.sql("SELECT kind, count(*) FROM events GROUP BY kind"))
    slow = Counter(kind for _, _, _, kind, _, _ in w.events)
    assert w.ask("trace.info")["eventCount"] == len(w.events)
    return atf, {kind: duck.get(name, 0) for kind, name in KINDS.items()}, {kind: slow[kind] for kind in WORDS}


@question("which events in a window")
def _(w):
    low, high = w.events[150][0], w.events[420][0]  # both are times of events, and of several at once
    rows = w.all("events.get", "events", filters={"timeStartNs": low, "timeEndNs": high}, projection={"indexSeq": True})
    duck = w.sql(f"SELECT timestamp_ns, tid, index_seq FROM events WHERE timestamp_ns BETWEEN {low} AND {high} ORDER BY 1, thread, 3")
    slow = [(time, w.written[thread].tid, seq) for time, thread, seq, *_ in w.events if low <= time <= high]
    return [(row["timestampNs"], row["threadId"], row["indexSeq"]) for row in rows], duck, slow


@question("a page in the middle and one from the end")
def _(w):
    pages = []
    for offset, limit, ascending in ((313, 17, True), (11, 23, False)):
        page = w.ask("events.get", offset=offset, limit=limit, ascending=ascending, projection={"indexSeq": True})["events"]
        pages.append([(row["timestampNs"], row["threadId"], row["indexSeq"]) for row in page])
    duck = [
        w.sql("SELECT timestamp_ns, tid, index_seq FROM events ORDER BY 1, thread, 3 LIMIT 17 OFFSET 313"),
        w.sql("SELECT timestamp_ns, tid, index_seq FROM events ORDER BY 1 DESC, thread DESC, 3 DESC LIMIT 23 OFFSET 11"),
    ]
    slow = [(time, w.written[thread].tid, seq) for time, thread, seq, *_ in w.events]
    return pages, duck, [slow[313 : 313 + 17], slow[::-1][11 : 11 + 23]]


@question("which returns and exceptions of a module in two threads")
def _(w):
    filters = {"threadIds": [400, 411], "eventTypes": ["functionReturn", "exception"], "moduleNames": ["lib.deep"]}
    rows = w.all("events.get", "events", filters=filters, projection={"functionName": True, "depth": True})
    duck = w.sql("""SELECT timestamp_ns, tid, name, depth FROM events
        WHERE tid IN (400, 411) AND kind IN ('return', 'exception') AND module = 'lib.deep' ORDER BY 1, thread, index_seq""")
    slow = []
    for time, thread, _, kind, function, depth in w.events:
        one = w.written[thread]
        module, name, *_ = one.named(function)
        if one.tid in (400, 411) and kind in (RETURN, EXCEPTION) and module == "lib.deep":
            slow.append((time, one.tid, name, depth - 1))
    return [(row["timestampNs"], row["threadId"], row["functionName"], row["depth"]) for row in rows], duck, slow


@question("where are gaps and what was lost there")
def _(w):
    rows = w.all("events.get", "events", filters={"eventTypes": ["gap"]})
    duck = w.sql("SELECT timestamp_ns, tid, lost, reason FROM events WHERE kind = 'gap' ORDER BY 1, thread, index_seq")
    slow = [
        (time, w.written[thread].tid, lost, {1: "exhausted", 4: "rate limited"}[reason])
        for time, thread, _, kind, lost, reason in w.events
        if kind == GAP
    ]
    assert sum(w.ask("trace.info")["lost"].values()) == sum(lost for _, _, lost, _ in slow)
    return [(row["timestampNs"], row["threadId"], row["lost"], row["lossReason"]) for row in rows], duck, slow


def sums_of(w, group):
    """{key: (count, self, min, max, active // count, exceptions)}, three times."""
    members = ("count", "selfNs", "minNs", "maxNs", "meanNs", "exceptions")
    atf = {
        tuple(row[label] for label in LABELS[group]): tuple(row[member] for member in members)
        for row in w.all("functions.top", "functions", group=group)
    }
    width = len(LABELS[group])
    rows = w.sql(f"""SELECT {GROUP[group]}, count(*), sum(self_ns), min(active_ns), max(active_ns), sum(active_ns) // count(*),
        count(*) FILTER (status = 'exception') FROM spans GROUP BY ALL""")
    duck = {row[:width]: row[width:] for row in rows}
    slow = {key: (n, own, low, high, active // n, raised) for key, (n, _, own, low, high, raised, active, _) in w.sums(group).items()}
    return atf, duck, slow


@question("count self least most and mean of every function")
def _(w):
    return sums_of(w, "function")


@question("the same by module")
def _(w):
    return sums_of(w, "module")


@question("the same by thread")
def _(w):
    return sums_of(w, "thread")


@question("total time with recursion counted once")
def _(w):
    atf = {(row["functionName"], row["moduleName"]): row["totalNs"] for row in w.all("functions.top", "functions", by="total")}
    duck = {
        (name, module): total
        for name, module, total in w.sql("""
        WITH RECURSIVE above AS (
            SELECT thread, call_seq, name, module, parent_seq FROM spans
            UNION ALL SELECT a.thread, a.call_seq, a.name, a.module, s.parent_seq
            FROM above AS a JOIN spans AS s ON s.thread = a.thread AND s.call_seq = a.parent_seq
            WHERE NOT (s.name = a.name AND s.module = a.module)),
        inside AS (
            SELECT DISTINCT a.thread, a.call_seq FROM above AS a JOIN spans AS s ON s.thread = a.thread AND s.call_seq = a.parent_seq
            WHERE s.name = a.name AND s.module = a.module)
        SELECT name, module, coalesce(sum(active_ns) FILTER ((thread, call_seq) NOT IN (SELECT (thread, call_seq) FROM inside)), 0)
        FROM spans GROUP BY ALL""")
    }
    slow = {key: total for key, (_, total, *_) in w.sums("function").items()}
    assert any(total < active for _, total, _, _, _, _, active, _ in w.sums("function").values())  # there is recursion
    return atf, duck, slow


@question("the 95th percentile of every function")
def _(w):
    atf = {(row["functionName"], row["moduleName"]): row["p95Ns"] for row in w.all("functions.top", "functions", by="p95")}
    rows = w.sql("""SELECT name, module, min(active_ns) FILTER (rank >= (n * 95 + 99) // 100) FROM (SELECT name, module, active_ns,
        row_number() OVER (PARTITION BY name, module ORDER BY active_ns) AS rank, count(*) OVER (PARTITION BY name, module) AS n FROM spans)
        GROUP BY ALL""")
    return atf, {(name, module): p95 for name, module, p95 in rows}, {key: sums[-1] for key, sums in w.sums("function").items()}


@question("the five functions with the most self time")
def _(w):
    rows = w.ask("functions.top", by="self", limit=5)["functions"]
    duck = w.sql("""SELECT name, module, sum(self_ns) FROM spans JOIN functions USING (process, function_id, name, module)
        GROUP BY name, module ORDER BY 3 DESC, 1, 2 LIMIT 5""")
    slow = sorted(((*key, own) for key, (_, _, own, *_) in w.sums("function").items()), key=lambda row: (-row[2], row[:2]))[:5]
    return [(row["functionName"], row["moduleName"], row["selfNs"]) for row in rows], duck, slow


@question("the slow spans of one function")
def _(w):
    filters = {"functionNames": ["step"], "moduleNames": ["lib"], "minDurationNs": 20}
    rows = w.all("spans.list", "spans", filters=filters, orderBy="duration")
    duck = w.sql("""SELECT span_id, duration_ns FROM spans WHERE name = 'step' AND module = 'lib' AND duration_ns >= 20
        ORDER BY 2 DESC, start_ns DESC, thread DESC, call_seq DESC""")
    slow = [
        (span.end - span.start, span.start, thread, span.call_seq, w.id(thread, span))
        for thread, span in w.spans
        if w.name(thread, span) == ("lib", "step") and span.end - span.start >= 20
    ]
    return [(row["spanId"], row["durationNs"]) for row in rows], duck, [(row[4], row[0]) for row in sorted(slow, reverse=True)]


@question("how many spans of each status and at each depth")
def _(w):
    statuses, depths = ("ok", "exception", "unwound", "open", "lost"), range(10)

    def total(**filters):
        return w.ask("spans.list", filters=filters, limit=1)["metadata"]["totalCount"]

    atf = {s: total(status=[s]) for s in statuses} | {d: total(minDepth=d, maxDepth=d) for d in depths}
    found = Counter(dict(w.sql("SELECT status, count(*) FROM spans GROUP BY 1")))
    found.update(dict(w.sql("SELECT depth, count(*) FROM spans GROUP BY 1")))
    slow = Counter(span.status for _, span in w.spans) + Counter(span.depth - 1 for _, span in w.spans)
    return atf, {key: found[key] for key in atf}, {key: slow[key] for key in atf}


@question("which spans have no caller")
def _(w):
    rows = w.all("spans.list", "spans", includeChildren=False, projection={"status": True})
    duck = w.sql("SELECT span_id, end_ns, status FROM spans WHERE parent_seq IS NULL ORDER BY start_ns, thread, call_seq")
    slow = sorted((s.start, t, s.call_seq, w.id(t, s), s.end, s.status) for t, s in w.spans if s.parent is None)
    return [(row["spanId"], row["endTimeNs"], row["status"]) for row in rows], duck, [row[3:] for row in slow]


@question("which spans lie within a window")
def _(w):
    low, high = w.events[200][0], w.events[700][0]
    rows = w.all("spans.list", "spans", filters={"timeStartNs": low, "timeEndNs": high})
    duck = w.sql(f"SELECT span_id FROM spans WHERE start_ns >= {low} AND end_ns <= {high} ORDER BY start_ns, thread, call_seq")
    slow = sorted((s.start, t, s.call_seq, w.id(t, s)) for t, s in w.spans if low <= s.start and s.end <= high)
    return [row["spanId"] for row in rows], [row[0] for row in duck], [row[3] for row in slow]


@question("what did the span with the most callees call")
def _(w):
    thread, busy = max(w.spans, key=lambda one: (one[1].children, one[0], one[1].call_seq))
    (node,) = w.ask("spans.tree", spanId=w.id(thread, busy), depth=1)["nodes"]
    assert node["childCount"] == busy.children
    atf = [(row["spanId"], row["selfTimeNs"], row["childCount"]) for row in node["children"]]
    duck = w.sql(f"SELECT span_id, self_ns, child_count FROM spans WHERE thread = {thread} AND parent_seq = {busy.call_seq} ORDER BY call_seq")
    return atf, duck, [(w.id(thread, s), own_ns(s), s.children) for _, s in w.spans if s.parent is busy]


@question("who called the deepest span")
def _(w):
    thread, deepest = max(w.spans, key=lambda one: (one[1].depth, one[0], one[1].call_seq))
    rows = w.all("spans.path", "spans", spanId=w.id(thread, deepest))
    duck = w.sql(f"""WITH RECURSIVE chain AS (
        SELECT * FROM spans WHERE thread = {thread} AND call_seq = {deepest.call_seq}
        UNION ALL SELECT s.* FROM spans AS s JOIN chain AS c ON s.thread = c.thread AND s.call_seq = c.parent_seq)
        SELECT span_id, name, module, depth FROM chain ORDER BY depth""")
    chain, at = [], deepest
    while at:
        module, name = w.name(thread, at)
        chain.append((w.id(thread, at), name, module, at.depth - 1))
        at = at.parent
    return [(row["spanId"], row["functionName"], row["moduleName"], row["depth"]) for row in rows], duck, chain[::-1]


@question("which functions raise the most")
def _(w):
    rows = w.ask("functions.top", by="exceptions", limit=3)["functions"]
    duck = w.sql("""SELECT name, module, count(*) FILTER (status = 'exception') FROM spans
        GROUP BY name, module ORDER BY 3 DESC, 1, 2 LIMIT 3""")
    slow = sorted(((*key, sums[5]) for key, sums in w.sums("function").items()), key=lambda row: (-row[2], row[:2]))[:3]
    return [(row["functionName"], row["moduleName"], row["exceptions"]) for row in rows], duck, slow


@question("which spans were suspended and how long did they work")
def _(w):
    projection = {"activeTimeNs": True, "selfTimeNs": True, "status": True}
    rows = w.all("spans.list", "spans", projection=projection)
    atf = [(r["spanId"], r["durationNs"], r["activeTimeNs"], r["selfTimeNs"]) for r in rows if r["activeTimeNs"] != r["durationNs"]]
    duck = w.sql("""SELECT span_id, duration_ns, active_ns, self_ns FROM spans WHERE active_ns <> duration_ns
        ORDER BY start_ns, thread, call_seq""")
    slow = sorted((s.start, t, s.call_seq, w.id(t, s), s.end - s.start, s.active, own_ns(s)) for t, s in w.spans)
    return atf, duck, [row[3:] for row in slow if row[4] != row[5]]


@question("what never ended and what ended that never began")
def _(w):
    result = w.ask("spans.list", filters={"status": ["open"]}, limit=1000)
    lies = {"returnsWithoutCall": 0, "yieldsWithoutCall": 0, "resumesWithoutCall": 0, **result["metadata"]["unmatched"]}
    atf = [(row["spanId"], row["endTimeNs"]) for row in result["spans"]]
    duck = w.sql("SELECT span_id, end_ns FROM spans WHERE status = 'open' ORDER BY start_ns, thread, call_seq")
    nobody = w.sql("""SELECT count(*) FROM events AS e WHERE kind IN ('return', 'exception')
        AND NOT EXISTS (FROM spans AS s WHERE s.thread = e.thread AND s.end_seq = e.index_seq)""")
    resumed = w.sql("SELECT count(*) FROM spans AS s JOIN events AS e ON e.thread = s.thread AND e.index_seq = s.call_seq WHERE e.kind = 'resume'")
    gaps = w.sql("SELECT count(*), sum(lost) FROM events WHERE kind = 'gap'")
    slow = sorted((s.start, t, s.call_seq, w.id(t, s), s.end) for t, s in w.spans if s.status == "open")
    c = w.counts
    return (
        (atf, lies["returnsWithoutCall"], lies["resumesWithoutCall"], lies["gaps"], lies["eventsLost"]),
        (duck, nobody[0][0], resumed[0][0], *gaps[0]),
        ([row[3:] for row in slow], c["returns_without_call"], c["resumes_without_call"], c["gaps"], c["events_lost"]),
    )


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    return [World(tmp_path_factory.mktemp(f"seed{seed}"), seed) for seed in SEEDS]


def test_there_are_twenty():
    assert len(QUESTIONS) == 20


@pytest.mark.parametrize("ask", QUESTIONS)
def test_three_answers_are_one(worlds, ask):
    for w in worlds:
        atf, duck, slow = ask(w)
        assert slow
        assert atf == slow
        assert duck == slow
