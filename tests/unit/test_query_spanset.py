"""The set of spans against slow Python, on random sessions."""

import sys
from pathlib import Path

import pytest

from atf.query.spanset import STATUS, Filter, SpanSet, key_at, make_refs
from atf.query.traces import Traces

sys.path.insert(0, str(Path(__file__).parents[1]))
import spancases

pytestmark = pytest.mark.at_rest
SEEDS = range(12)
COLUMNS = ("thread", "row", "start_ns", "end_ns", "duration_ns", "active_ns", "self_ns", "depth", "status", "call_seq", "end_seq", "parent")


@pytest.fixture(scope="module", params=SEEDS)
def case(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("spanset")
    found = spancases.Case(root, request.param)
    found.set = SpanSet.of(Traces(root).view(found.name))
    return found


def refs_of(refs):
    return list(zip(refs.thread.tolist(), refs.row.tolist()))


def filter_of(case, filters):
    names = {"timeStartNs": "start_ns", "timeEndNs": "end_ns", "minDurationNs": "min_duration_ns", "maxDurationNs": "max_duration_ns"}
    names |= {"minDepth": "min_depth", "maxDepth": "max_depth"}
    return Filter(
        **{names[name]: value for name, value in filters.items() if name in names},
        threads=case.set.thread_positions(filters.get("threadIds")),
        functions=case.set.function_keys(filters.get("functionNames"), filters.get("pattern"), filters.get("moduleNames")),
        statuses=frozenset(filters["status"]) if "status" in filters else None,
    )


def seen(case, rows):
    return [
        (t, r, start, end, duration, active, self_ns, depth, STATUS[status], seq, end_seq, parent, (f.pid, f.id), f.name, f.module)
        for t, r, start, end, duration, active, self_ns, depth, status, seq, end_seq, parent, f in zip(
            *(getattr(rows, name).tolist() for name in COLUMNS), [case.set.functions[key] for key in rows.function.tolist()]
        )
    ]


def told(row):
    s = row.span
    parent = row.above.row if row.above else -1
    return (
        *(row.thread, row.row, s.start, s.end, row.duration, s.active, row.self_ns, row.depth, s.status, s.call_seq, s.end_seq, parent),
        *(row.function, row.name, row.module),
    )


def test_rows_are_the_oracles(case):
    spans = case.set
    assert len(spans) == len(case.rows) and spans.counts == case.counts and [t.tid for t in spans.threads] == case.tids
    shuffled = case.rng.sample(case.rows, len(case.rows))
    rows = spans.gather([(row.thread, row.row) for row in shuffled])
    assert seen(case, rows) == [told(row) for row in shuffled]
    assert spans.span_ids(rows) == [row.id for row in shuffled]
    assert spans.child_counts([(row.thread, row.row) for row in shuffled]).tolist() == [row.span.children for row in shuffled]
    for thread in range(len(case.tids)):
        mine = [row for row in case.rows if row.thread == thread]
        assert spans.thread_length(thread) == len(mine)
        for first, last in ((0, None), (3, 9), (5, 5), (len(mine) - 2, len(mine) + 5)):
            assert seen(case, spans.rows(thread, first, last)) == [told(row) for row in mine[first:last]]


def test_pages_are_the_oracles(case):
    rng, spans = case.rng, case.set
    for _ in range(40):
        filters = case.random_filters()
        order, ascending = rng.choice(("start", "duration", "self")), rng.random() < 0.5
        offset, limit = rng.choice((0, 0, 1, 7, 1000)), rng.choice((None, 0, 1, 2, 10, 1000))
        passing = sorted(case.passing(filters), key=lambda row: row.key(order), reverse=not ascending)
        total, refs = spans.select(filter_of(case, filters), order, ascending, None, offset, limit)
        expected = passing[offset:] if limit is None else passing[offset : offset + limit]
        assert (total, refs_of(refs)) == (len(passing), [(row.thread, row.row) for row in expected]), (filters, order, ascending)


def test_pages_by_key_are_the_whole(case):
    rng, spans = case.rng, case.set
    for order in ("start", "duration", "self"):
        for ascending in (True, False):
            wanted = filter_of(case, case.random_filters() if rng.random() < 0.5 else {})
            whole = refs_of(spans.select(wanted, order, ascending).refs)
            found, key = [], None
            while page := refs_of(spans.select(wanted, order, ascending, key, 0, 13).refs):
                found += page
                rows = spans.gather(page)
                key = key_at(rows, len(page) - 1, order)
            assert found == whole


def test_a_key_needs_no_span(case):
    row = case.rng.choice(case.rows)
    for order in ("start", "duration", "self"):
        for key in ((row.value(order), *row.key(order)[-3:-1], 1 << 63), (row.value(order), 0, 0, 0), (0, 0, 0, 0), ((1 << 64) - 1,) * 4):
            key = key[1:] if order == "start" else key
            after = sorted((r for r in case.rows if r.key(order) > key), key=lambda r: r.key(order))
            before = sorted((r for r in case.rows if r.key(order) < key), key=lambda r: r.key(order), reverse=True)
            assert refs_of(case.set.select(order=order, after_key=key).refs) == [(r.thread, r.row) for r in after]
            assert refs_of(case.set.select(order=order, ascending=False, after_key=key).refs) == [(r.thread, r.row) for r in before]


def test_overlap(case):
    rows, rng = case.rows, case.rng
    for _ in range(10):
        first, last = sorted((rng.choice(rows).start, rng.choice(rows).span.end))
        expected = {(r.thread, r.row) for r in rows if r.start <= last and r.span.end >= first}
        assert set(refs_of(case.set.select(Filter(overlap=(first, last))).refs)) == expected


def test_ids_children_and_paths(case):
    spans = case.set
    for row in case.rng.sample(case.rows, min(60, len(case.rows))):
        first = next(r for r in case.rows if r.id == row.id)  # of two threads with one tid
        assert spans.find(row.id) == (first.thread, first.row)
        assert refs_of(spans.children((row.thread, row.row))) == [(r.thread, r.row) for r in case.rows if r.above is row]
        path, at = [], row
        while at is not None:
            path.insert(0, (at.thread, at.row))
            at = at.above
        assert refs_of(spans.path((row.thread, row.row))) == path
    known = {row.id for row in case.rows}
    a = case.rows[0]
    near = (f"{a.tid}:{a.start}:{seq}" for seq in range(3))
    for text in (*near, f"{a.tid}:{a.start + 1}:0", "", "1:2", "1:2:3:4", "x:1:0", "-1:1:0", "9:9:9", f"{a.tid}:{a.start}:{1 << 70}", "²:1:0"):
        assert (spans.find(text) is not None) == (text in known), text


def test_at_a_time(case):
    for _ in range(30):
        thread, time = case.rng.randrange(len(case.tids)), case.rng.choice(case.rows).start + case.rng.randrange(3)
        open_then = [row for row in case.rows if row.thread == thread and row.start <= time <= row.span.end]
        assert case.set.at(thread, time) == ((thread, open_then[-1].row) if open_then else None)


@pytest.mark.parametrize("kind", ["function", "module", "file", "thread"])
def test_sums_are_the_oracles(case, kind):
    spans = case.set
    for filters in ({}, *(case.random_filters() for _ in range(8))):
        wanted, expected = filter_of(case, filters), spancases.sums(case.passing(filters), kind)
        got = spans.totals(wanted, kind)
        some = [number for number, count in enumerate(got.count.tolist()) if count]
        percents = [1, 50, 95, 99, 100]
        ranks = spans.percentiles(wanted, kind, some, percents).tolist()
        found = {}
        for number, rank in zip(some, ranks):
            label = got.groups.labels[number]
            name = {"function": label[:4], "module": label.module, "file": label.file, "thread": number}[kind]
            arrays = (got.count, got.total_ns, got.active_ns, got.self_ns, got.min_ns, got.max_ns, got.exceptions)
            found[name] = [*(int(array[number]) for array in arrays), rank]
        assert found == {
            name: [*row[:7], [spancases.nearest_rank(row[7], p) for p in percents]] for name, row in expected.items()
        }, filters


def test_long_threads(tmp_path):
    """Threads of thousands of spans, so that a page begins and ends deep inside of each."""
    case = spancases.Case(tmp_path, 77, 3000)
    case.set, rng = SpanSet.of(Traces(tmp_path).view(case.name)), case.rng
    for order in ("start", "duration", "self"):
        for ascending in (True, False):
            filters = rng.choice(({}, {"functionNames": ["run", "step"]}, case.random_filters()))
            whole = sorted(case.passing(filters), key=lambda row: row.key(order), reverse=not ascending)
            for offset in (0, 1, len(whole) // 2, max(0, len(whole) - 30)):
                total, refs = case.set.select(filter_of(case, filters), order, ascending, None, offset, 40)
                assert (total, refs_of(refs)) == (len(whole), [(row.thread, row.row) for row in whole[offset : offset + 40]])
                if offset:
                    key = whole[offset - 1].key(order)
                    assert refs_of(case.set.select(filter_of(case, filters), order, ascending, key, 0, 40).refs) == refs_of(refs)


def test_no_span_at_all(tmp_path):
    (tmp_path / "session_20260101_000000" / "pid_5").mkdir(parents=True)
    (tmp_path / "session_20260101_000000" / "pid_5" / "manifest.json").write_text('{"status": "complete"}')
    spans = SpanSet.of(Traces(tmp_path).view("session_20260101_000000"))
    assert len(spans) == 0 and spans.select(limit=5).total == 0 and spans.find("1:2:3") is None
    assert spans.select(Filter(threads=frozenset([3]), functions=frozenset([1])), "self", False, (1, 2, 3, 4)).total == 0
    for kind in ("function", "module", "file", "thread"):
        assert spans.totals(group=kind).count.tolist() == [] and spans.percentiles(Filter(), kind, [], [50]).shape == (0, 1)
    assert len(spans.gather(make_refs([]))) == 0
