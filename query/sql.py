"""SQL over a recording: DuckDB reads the mapped records in place.

Tables: `events`, `spans`, `functions`, `threads`. A thread is named by `thread`, a process by `process`, an event by (thread,
index_seq), a span by (thread, call_seq), a function by (process, function_id) or its number, `function`.
A statement can only read them: no files, no settings, no extensions.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from atf._core.errors import AtfError, UsageError
from atf._core.layout import GAP_REASONS, KINDS, NO_DETAIL, NOT_KEPT
from atf._core.merge import distinct_functions
from atf._core.spans import NO_SEQ, STATUS

if TYPE_CHECKING:
    from atf.trace import Trace
    from atf.trace_manifest import Function

DEFAULT_LIMIT = 1000
DEFAULT_TIMEOUT_S = 10.0
_SPAN_COLUMNS = ("call_seq", "end_seq", "start_ns", "end_ns", "active_ns", "self_ns", "depth", "child_count", "status")
_GAP = 8
_LARGEST = 1 << 53  # what every reader of JSON can hold
_CELL = 500  # characters of one cell of a table
# Names come from the recorded program: what would move a terminal's cursor is written as an escape.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {9: "\\t", 10: "\\n", 13: "\\r"}
_SETTINGS = (
    "SET temp_directory=''",  # without it a large sort would write files
    "SET memory_limit='2GB'",
    "SET python_enable_replacements=false",  # a table is never a variable of this process
    "SET autoinstall_known_extensions=false",
    "SET autoload_known_extensions=false",
    "SET allow_community_extensions=false",
    "SET enable_external_access=false",
    "SET lock_configuration=true",
)


class SqlError(UsageError):
    """A statement that is not allowed, or that DuckDB refuses."""


@dataclass(frozen=True)
class Answer:
    """columns: their names. rows: tuples of Python values, at most `limit`. did_truncate: there would be more."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    did_truncate: bool


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise UsageError("SQL needs duckdb, which is not installed: pip install 'atf[sql]'") from None
    return duckdb


def _named(column: str, names: dict[int, str]) -> str:
    return f"CASE {column} " + " ".join(f"WHEN {n} THEN '{name}'" for n, name in names.items()) + " ELSE 'unknown' END"


def _by_thread(con: Any, trace: Trace, prefix: str, columns_of: Callable[[int], dict[str, Any]]) -> str:
    """A SELECT over the columns of every thread, each registered by itself, with the thread's own numbers as constants."""
    parts = []
    for t in trace.threads:
        con.register(f"{prefix}{t.position}", columns_of(t.position))
        numbers = {"thread": t.position, "process": t.process.position, "pid": t.process.pid, "tid": t.tid}
        constants = ", ".join(f"{n}::UBIGINT AS {name}" for name, n in numbers.items())
        parts.append(f"SELECT {constants}, * FROM {prefix}{t.position}")
    return " UNION ALL ".join(parts)


def _events(con: Any, trace: Trace) -> None:
    """One view over the strided columns of every thread's records. Nothing is copied; positions share one array."""
    import numpy

    events = [t.events for t in trace.threads]
    positions = numpy.arange(max(map(len, events)), dtype=numpy.uint32)

    def unless_gap(column: str) -> str:
        """A GAP counts what was lost where other events have a function."""
        return f"CASE WHEN event_kind <> {_GAP} THEN {column} END"

    names = ("timestamp_ns", "function_id", "event_kind", "call_depth", "detail_seq")
    every = _by_thread(
        con, trace, "_events_", lambda t: {"index_seq": positions[: len(events[t])], **{name: events[t][name] for name in names}}
    )
    con.execute(
        f"""CREATE TEMP VIEW events AS
        SELECT thread, process, pid, tid, index_seq, timestamp_ns, {_named("event_kind", KINDS)} AS kind, {unless_gap("greatest(call_depth, 1) - 1")} AS depth,
            {unless_gap("function_id")} AS function_id, {unless_gap("name")} AS name, {unless_gap("module")} AS module,
            nullif(detail_seq, {NO_DETAIL}) AS detail_seq,
            CASE WHEN event_kind = {_GAP} AND call_depth < {NOT_KEPT} THEN function_id END AS lost,
            CASE event_kind WHEN {_GAP} THEN {_named("call_depth", GAP_REASONS)} END AS reason
        FROM ({every}) LEFT JOIN
            (SELECT process, function_id, any_value(name) AS name, any_value(module) AS module FROM functions GROUP BY process, function_id)
            USING (process, function_id)"""
    )


def _spans(con: Any, trace: Trace, functions: list[tuple[int, Function]]) -> None:
    import numpy

    c = trace.table().columns
    parent_seq = numpy.full(len(c), NO_SEQ, dtype=numpy.uint32)
    has = c.parent >= 0
    parent_seq[has] = c.call_seq[c.parent[has]]
    first = c.thread_rows.tolist()
    number = {(process, f.id): n for n, (process, f) in enumerate(functions)}
    members = [number[process, id] for process, id in zip(c.function_space.tolist(), c.function_ids.tolist(), strict=True)]
    function = numpy.array(members, dtype=numpy.uint32)[c.function]

    def columns_of(t: int) -> dict[str, Any]:
        rows = slice(first[t], first[t + 1])
        return {**{name: getattr(c, name)[rows] for name in _SPAN_COLUMNS}, "function": function[rows], "parent_seq": parent_seq[rows]}

    con.execute(
        f"""CREATE TEMP VIEW spans AS
        SELECT thread, process, pid, tid, call_seq, nullif(end_seq, {NO_SEQ}) AS end_seq, nullif(parent_seq, {NO_SEQ}) AS parent_seq,
            start_ns, end_ns, end_ns - start_ns AS duration_ns, active_ns, self_ns, depth - 1 AS depth, child_count,
            {_named("status", dict(enumerate(STATUS)))} AS status, function, function_id, name, module,
            concat(tid, ':', start_ns, ':', call_seq) AS span_id
        FROM ({_by_thread(con, trace, "_spans_", columns_of)}) LEFT JOIN
            (SELECT function, any_value(function_id) AS function_id, any_value(name) AS name, any_value(module) AS module
            FROM functions GROUP BY function)
            USING (function)"""  # grouped, so that DuckDB sees that the join adds no row and leaves it out when no name is asked for
    )


def _functions(trace: Trace) -> list[tuple[int, Function]]:
    """[(process, function)] of all that the manifests name or that occurs, by process and id; the place in it is its number."""
    found = []
    for p in trace.processes:
        ids = set(p.manifest.functions) | set(distinct_functions([t.events for t in p.threads]).tolist())
        found += [(p.position, p.function(id)) for id in sorted(ids)]
    return found


def _function_columns(found: list[tuple[int, Function]]) -> dict[str, Any]:
    import numpy

    functions = [f for _, f in found]
    return {
        "function": numpy.arange(len(found), dtype=numpy.uint32),
        "process": numpy.array([process for process, _ in found], dtype=numpy.uint32),
        "pid": numpy.array([f.pid for f in functions], dtype=numpy.uint64),
        "function_id": numpy.array([f.id for f in functions], dtype=numpy.uint64),
        "id": _texts(f"0x{f.id:016x}" for f in functions),
        "name": _texts(f.name for f in functions),
        "module": _texts(f.module for f in functions),
        "file": _texts(f.file for f in functions),
        "line": numpy.array([f.line for f in functions], dtype=numpy.uint64),
    }


def _threads(trace: Trace) -> dict[str, Any]:
    import numpy

    numbers = {
        "thread": [t.position for t in trace.threads],
        "process": [t.process.position for t in trace.threads],
        "number": [t.number for t in trace.threads],
        "pid": [t.process.pid for t in trace.threads],
        "tid": [t.tid for t in trace.threads],
        "events": [len(t.index) for t in trace.threads],
        "lost": [min(t.lost, (1 << 64) - 1) for t in trace.threads],
    }
    columns: dict[str, Any] = {name: numpy.array(values, dtype=numpy.uint64) for name, values in numbers.items()}
    return {**columns, "name": _texts(t.name for t in trace.threads)}


def _texts(values: Any) -> Any:
    import numpy

    return numpy.array([value.encode("utf-8", "replace").decode() for value in values], dtype=object)


def open_tables(trace: Trace, sql: str) -> Any:
    """A DuckDB connection with the views that `sql` needs: spans are matched only for a statement that may read them."""
    con = _duckdb().connect(":memory:")
    for setting in _SETTINGS:
        con.execute(setting)
    if not trace.threads:
        raise AtfError(f"{trace.path}: has no thread, and nothing to ask about")
    wants_spans = "spans" in sql.lower() or not re.search(r"events|functions|threads", sql, re.I)
    functions = _functions(trace)
    con.register("_functions", _function_columns(functions))
    con.register("_threads", _threads(trace))
    con.execute("CREATE TEMP VIEW threads AS SELECT * FROM _threads")
    con.execute("CREATE TEMP VIEW functions AS SELECT * FROM _functions")
    _events(con, trace)
    if wants_spans:
        _spans(con, trace, functions)
    return con


def ask(trace: Trace, sql: str, limit: int = DEFAULT_LIMIT, timeout_s: float = DEFAULT_TIMEOUT_S) -> Answer:
    """The answer to one SELECT. SqlError for a statement that is not allowed or wrong, AtfError for one that took too long."""
    duckdb = _duckdb()
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as why:
        raise SqlError(str(why)) from None
    if len(statements) != 1 or statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise SqlError("give one statement that reads: SELECT, WITH, FROM, DESCRIBE, SUMMARIZE, SHOW TABLES or EXPLAIN")
    con = open_tables(trace, sql)
    late = threading.Timer(timeout_s, con.interrupt)
    late.daemon = True
    late.start()
    try:
        found = con.execute(statements[0])
        columns = [column[0] for column in found.description]
        rows = found.fetchmany(limit + 1)
    except duckdb.InterruptException:
        raise AtfError(f"the statement took longer than {timeout_s:g} s: narrow it, for instance to a time window or a thread") from None
    except duckdb.OutOfMemoryException as why:
        raise AtfError(f"the statement needs more memory than it may have: aggregate, or add LIMIT ({why})") from None
    except duckdb.Error as why:
        raise SqlError(str(why)) from None
    finally:
        late.cancel()
        con.close()
    for thread in trace.threads:
        _ = thread.events  # FormatError when a file was cut while it was read: the answer would have zeros in it
    return Answer(columns, rows[:limit], len(rows) > limit)


def _plain(value: Any) -> Any:
    """What JSON can say: bytes in hexadecimal, NaN and infinities as null, what it does not know as text."""
    if isinstance(value, (bool, int, str, type(None))):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return value.hex() if isinstance(value, bytes) else str(value)


def _json_column(values: list[Any]) -> list[Any]:
    """Integers beyond what every reader of JSON can hold are strings; then all of their column are."""
    values = [_plain(value) for value in values]
    large = any(isinstance(value, int) and abs(value) > _LARGEST for value in values)
    return [str(value) if large and isinstance(value, int) else value for value in values]


def _print(answer: Answer) -> None:
    def shown(value: Any) -> str:
        text = "" if value is None else value if isinstance(value, str) else str(_plain(value))
        text = text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()
        return text if len(text) <= _CELL else text[: _CELL - 1] + "…"

    right = [all(isinstance(row[i], (int, float, Decimal, type(None))) for row in answer.rows) for i in range(len(answer.columns))]
    cells = [[shown(value) for value in row] for row in (answer.columns, *answer.rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for row in cells:
        parts = [cell.rjust(width) if numeric else cell.ljust(width) for cell, width, numeric in zip(row, widths, right)]
        print("  ".join(parts).rstrip())
    if answer.did_truncate:
        print(f"… more than {len(answer.rows)} rows: add LIMIT, or raise --limit", file=sys.stderr)


def run_command(args: argparse.Namespace) -> int:
    """``TRACE --sql SELECT``: prints the answer, as a table or as JSON {columns, rows: [{column: value}], didTruncate}."""
    import msgspec

    from atf.trace import open_trace

    if args.limit < 1:
        raise UsageError("--limit must be at least 1")
    _duckdb()
    with open_trace(args.trace) as trace:
        answer = ask(trace, args.sql, args.limit, args.timeout)
    if not args.json:
        _print(answer)
        return 0
    columns = [_json_column([row[i] for row in answer.rows]) for i in range(len(answer.columns))]
    rows = [dict(zip(answer.columns, row)) for row in zip(*columns)]
    document = {"columns": answer.columns, "rows": rows, "didTruncate": answer.did_truncate}
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    return 0
