"""SQL over the mapped records: what it may see, what it may not do, and how its answers look."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atf.errors import AtfError, UsageError
from atf.query import sql
from atf.query.__main__ import main
from atf.trace import open_trace

sys.path.insert(0, str(Path(__file__).parents[1]))
import mixed_traces
import tracefiles as tf
from tracefiles import CALL, RETURN, event

pytest.importorskip("duckdb")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return mixed_traces.write(tmp_path_factory.mktemp("sql"), 7)


@pytest.fixture(scope="module")
def trace(session):
    with open_trace(session[0]) as opened:
        yield opened


def rows(trace, statement, **more):
    return sql.ask(trace, statement, **more).rows


def test_events_are_the_records(trace, session):
    found = rows(trace, "SELECT thread, pid, tid, index_seq, timestamp_ns, kind, depth, function_id, name, module, lost FROM events ORDER BY 1, 4", limit=10_000)
    want = []
    for thread, one in enumerate(session[1]):
        for seq, (time, function, tid, kind, depth, _) in enumerate(one.events):
            module, name, _, _ = one.named(function)
            of = (None, None, None, None, function) if kind == tf.GAP else (max(depth - 1, 0), function, name, module, None)
            want.append((thread, one.pid, tid, seq, time, sql.KINDS[kind], *of))
    assert found == want


def test_spans_are_the_traces(trace):
    found = rows(trace, "SELECT span_id, thread, name, module, start_ns, end_ns, duration_ns, active_ns, self_ns, depth, status, end_seq, child_count FROM spans ORDER BY thread, call_seq")
    assert found == [
        (s.span_id, s.thread.position, s.function.name, s.function.module, s.start_ns, s.end_ns, s.duration_ns, s.active_ns, s.self_ns, s.depth - 1, s.status, s.end_seq, s.child_count)
        for s in sorted(trace.spans(), key=lambda s: (s.thread.position, s.call_seq))
    ]  # fmt: skip
    parents = rows(trace, "SELECT thread, call_seq, parent_seq FROM spans ORDER BY 1, 2")
    assert {(t, c): p for t, c, p in parents} == {(s.thread.position, s.call_seq): s.parent and s.parent.call_seq for s in trace.spans()}


def test_tables_join(trace):
    assert rows(trace, "SELECT count(*) FROM spans s JOIN events e ON s.thread = e.thread AND s.call_seq = e.index_seq WHERE s.name <> e.name") == [(0,)]
    assert rows(trace, "SELECT count(*) FROM spans JOIN functions USING (function) WHERE spans.name <> functions.name") == [(0,)]
    threads = rows(trace, "SELECT thread, process, number, pid, tid, name, events, lost FROM threads")
    assert threads == [(t.position, t.process.position, t.number, t.process.pid, t.tid, t.name, len(t.index), t.lost) for t in trace.threads]
    unnamed = rows(trace, f"SELECT pid, id, name, module FROM functions WHERE function_id = {mixed_traces.UNNAMED}")
    assert unnamed == [(pid, "0x00000003000003e7", "lib.deep:0x3e7", "lib.deep") for pid in (40, 41)]


def test_records_are_read_where_they_are(trace):
    """The columns that DuckDB has are views of the map: strided, and of the same memory."""
    import numpy

    registered = {}

    class Watch:
        def __init__(self, con):
            self.con = con

        def register(self, name, columns):
            registered[name] = columns
            self.con.register(name, columns)

        def execute(self, statement):
            return self.con.execute(statement)

    duckdb = sql._duckdb()
    con = duckdb.connect()
    con.register("_functions", sql._function_columns(sql._functions(trace)))
    con.execute("CREATE TEMP VIEW functions AS SELECT * FROM _functions")
    sql._events(Watch(con), trace)
    for thread in trace.threads:
        columns = registered[f"_events_{thread.position}"]
        assert numpy.shares_memory(columns["timestamp_ns"], thread.events) and columns["timestamp_ns"].strides == (32,)
    con.close()


REFUSED = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM '/etc/passwd'",
    "FROM query('SELECT * FROM ''/etc/passwd''')",
    "COPY (SELECT 1) TO '{}'",
    "ATTACH '{}' AS other",
    "EXPORT DATABASE '{}'",
    "INSTALL httpfs",
    "LOAD json",
    "SET enable_external_access = true",
    "PRAGMA enable_profiling",
    "CALL pragma_version()",
    "CREATE TABLE x AS SELECT 1",
    "DROP VIEW events",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{}'",
    "",
    "SELEC 1",
    "SELECT nothing FROM events",
    "SELECT * FROM session",
    "SELECT * FROM trace",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{}'",
    "WITH x AS (INSERT INTO y VALUES (1)) SELECT 1",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_statements_that_are_refused(trace, tmp_path, statement):
    target = tmp_path / "written"
    with pytest.raises(UsageError):
        sql.ask(trace, statement.format(target))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("statement", ["FROM spans LIMIT 1", "VALUES (1)", "WITH a AS (SELECT 1) FROM a", "SHOW TABLES", "DESCRIBE events", "SUMMARIZE threads", "EXPLAIN FROM events", "SELECT * FROM query_table('SPA' || 'ns') LIMIT 1", "FROM \"Spans\" LIMIT 1"])
def test_statements_that_read(trace, statement):
    assert rows(trace, statement)


def test_a_statement_may_not_take_for_ever(trace):
    with pytest.raises(AtfError, match=r"longer than 0\.2 s"):
        sql.ask(trace, "SELECT count(*) FROM range(1000000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11", timeout_s=0.2)


def test_a_statement_may_not_take_all_memory(trace, monkeypatch):
    monkeypatch.setattr(sql, "_SETTINGS", tuple(setting.replace("2GB", "60MB") for setting in sql._SETTINGS))
    with pytest.raises(AtfError, match="memory"):
        sql.ask(trace, "SELECT list(range) FROM range(40000000)")


def test_answers_are_bounded(trace):
    found = sql.ask(trace, "SELECT index_seq FROM events", limit=7)
    assert len(found.rows) == 7 and found.did_truncate
    assert not sql.ask(trace, "SELECT 1 FROM events LIMIT 7", limit=7).did_truncate


def test_strange_traces(tmp_path):
    place = tmp_path / "session_20260101_000000"
    said = {0: {"tid": 1, "name": "a\x1b[31m", "lost": 10**30}, 1: {"tid": 2}}
    content = tf.manifest(said, {1 << 32: ("f\ud800", "/x", 10**18)}, {1: "m"}, pid=2**63)
    tf.write_process(place, 1, {0: (1, [event(2**64 - 9, 1 << 32, CALL), event(2**64 - 2, 1 << 32, RETURN)], ()), 1: (2, [], ())}, content)
    with open_trace(place) as trace:
        assert rows(trace, "SELECT pid, name, events, lost FROM threads") == [(2**63, "a\x1b[31m", 2, 2**64 - 1), (2**63, "thread 1", 0, 0)]
        assert rows(trace, "SELECT name, duration_ns, end_ns FROM spans") == [("f\ufffd", 7, 2**64 - 2)]
        assert rows(trace, "SELECT count(*), max(timestamp_ns) FROM events") == [(2, 2**64 - 2)]
    empty = tmp_path / "session_20260101_000001"
    empty.mkdir()
    with open_trace(empty) as trace, pytest.raises(AtfError, match="no thread"):
        sql.ask(trace, "SELECT 1")


def test_command_prints_a_table(session, capsys):
    statement = "SELECT 'a' || chr(27) || 'b' AS text, 1.5 AS number, NULL AS nothing, function_id FROM functions ORDER BY 4 LIMIT 2"
    assert main([str(session[0]), "--sql", statement]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "text    number  nothing  function_id",
        "a\\x1bb     1.5            4294967296",
        "a\\x1bb     1.5            4294967297",
    ]
    assert main([str(session[0]), "--sql", "FROM events", "--limit", "3"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4 and "more than 3 rows" in err


def test_command_prints_json(session, capsys):
    statement = "SELECT * FROM (VALUES (1::HUGEINT, 2, 'x', 'nan'::DOUBLE, [1], true, 'a'::BLOB), (2::HUGEINT ** 70, NULL, NULL, 1, NULL, NULL, NULL)) AS t(a, b, c, d, e, f, g)"
    statement = statement.replace("2::HUGEINT ** 70", "18446744073709551617::HUGEINT")
    assert main([str(session[0]), "--sql", statement, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "columns": ["a", "b", "c", "d", "e", "f", "g"],
        "rows": [
            {"a": "1", "b": 2, "c": "x", "d": None, "e": [1], "f": True, "g": "61"},
            {"a": "18446744073709551617", "b": None, "c": None, "d": 1.0, "e": None, "f": None, "g": None},
        ],
        "didTruncate": False,
    }


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["--sql", "SELEC 1"], 2, "syntax error"),
    (["--sql", "SELECT 1", "--limit", "0"], 2, "at least 1"),
])  # fmt: skip
def test_command_errors(session, capsys, arguments, status, said):
    assert main([str(session[0]), *arguments]) == status
    assert said in capsys.readouterr().err
    assert main(arguments) == 2


def test_without_duckdb(session, tmp_path):
    (tmp_path / "duckdb.py").write_text("raise ImportError('not here')")
    run = [sys.executable, "-m", "atf.query", str(session[0]), "--sql", "SELECT 1"]
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    done = subprocess.run(run, capture_output=True, text=True, env=where, timeout=60)
    assert done.returncode == 2 and done.stderr == "atf: SQL needs duckdb, which is not installed: pip install 'atf[sql]'\n"
