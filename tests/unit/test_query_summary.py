"""trace.summary: each claim against the oracle, and each id against the methods that take it."""

import collections
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from query_calls import Caller, timeless
from random_session import NAME, name_of, write

from atf.query.findings import KINDS, Claim, fitting, line
from atf.query.words import duration, number, quoted, share

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf
from tracefiles import CALL, EXCEPTION, GAP, RETURN, YIELD, detail

pytestmark = pytest.mark.at_rest
pack = msgspec.msgpack.encode


def claims_of(call, kind, trace=NAME):
    return call("trace.summary", trace, focus=[kind], maxTokens=20_000)["claims"]


def resolve(call, claim, trace=NAME):
    """The spans and events of a claim, as other methods give them."""
    shown = {"selfTimeNs": True, "status": True, "activeTimeNs": True, "moduleName": True, "childCount": True, "endTimeNs": True}
    spans = [call("spans.path", trace, spanId=id, projection=shown)["spans"][-1] for id in claim["spanIds"]]
    return spans, [call("events.detail", trace, eventId=id) for id in claim["eventIds"]]


def full(span):
    return f"{span['moduleName']}.{span['functionName']}" if span["moduleName"] else span["functionName"]


@pytest.mark.parametrize("seed", range(4))
def test_self_times_and_slowest_calls(tmp_path, seed):
    rows, call = write(tmp_path, seed), Caller(tmp_path)
    sums, counts = collections.Counter(), collections.Counter()
    for row in rows:
        sums[row.names()[-1]] += row.self_ns
        counts[row.names()[-1]] += 1
    claims = claims_of(call, "self")
    assert [claim["value"] for claim in claims] == sorted(sums.values(), reverse=True)[:5]
    for claim in claims:
        (span,), _ = resolve(call, claim)
        assert sums[full(span)] == claim["value"] and span["selfTimeNs"] == max(r.self_ns for r in rows if r.names()[-1] == full(span))
        assert f"in {number(counts[full(span)], 'call')}" in claim["text"] and claim["functionName"] == span["functionName"]
    claims = claims_of(call, "slowest")
    several = sorted((row.self_ns for row in rows), reverse=True)[:10]
    assert claims and [claim["value"] for claim in claims] == [resolve(call, claim)[0][0]["selfTimeNs"] for claim in claims]
    assert claims[0]["value"] in several and len(claims) <= 5


@pytest.mark.parametrize("seed", range(4))
def test_the_hot_path(tmp_path, seed):
    rows, call = write(tmp_path, seed, 300), Caller(tmp_path)
    below = collections.Counter()
    for row in rows:
        for depth in range(1, len(row.names()) + 1):
            below[row.names()[:depth]] += row.self_ns
    path, root = (), None
    while True:
        under = {p: n for p, n in below.items() if p[:-1] == path}
        best = max(under.values(), default=0)
        if not best or (root and best < root / 2):
            break
        path, root = next(p for p, n in under.items() if n == best), root or best
    (claim,) = claims_of(call, "path")
    spans, _ = resolve(call, claim)
    assert claim["value"] == below[path] and claim["functionName"] == path[-1].rpartition(".")[2]
    assert [full(span) for span in reversed(spans)] == list(path[-8:])


@pytest.mark.parametrize("seed", range(6))
def test_exceptions_go_from_where_they_were_raised_to_where_they_were_caught(tmp_path, seed):
    rows, call = write(tmp_path, seed, 80, generators=seed % 2 == 0, raising=True), Caller(tmp_path)
    by_span = {id(row.span): row for row in rows}
    left = [row for row in rows if row.span.status == "exception"]

    def goes_on(row):
        above = row.span.parent
        if above is None or above.status != "exception":
            return None
        last = max(other.span.end_seq for other in left if other.span.parent is above)
        return above if last == row.span.end_seq == above.end_seq - 1 else None

    passed = {id(above) for row in left if (above := goes_on(row))}
    want = collections.Counter()
    for row in left:
        if id(row.span) not in passed:
            top = row
            while above := goes_on(top):
                top = by_span[id(above)]
            want[row.names()[-1], name_of(top.span.parent.function) if top.span.parent else None] += 1
    claims = claims_of(call, "exception")
    assert len(claims) == min(10, len(want)) and passed and sum(want.values()) > 3
    for claim in claims:
        spans, (event,) = resolve(call, claim)
        assert spans[0]["status"] == "exception" and event["event"]["eventType"] == "Exception"
        own = f"{claim['moduleName']}.{claim['functionName']}" if claim["moduleName"] else claim["functionName"]
        caught = None if "nothing that was recorded caught it" in claim["text"] else full(spans[-1])
        shown = "a:b c" if caught is None else caught
        assert want.pop((own, caught)) == claim["value"], (own, shown)


def session(root, threads, details=(), **more):
    """One process. threads: {number: [events]} of the functions below; details: of thread 0."""
    symbols = {n: (name, "/src/app.py", n) for n, name in enumerate(("main", "handle", "load", "fetch", "rows"), 1)}
    symbols = {1 << 32 | n: said for n, said in symbols.items()}
    content = tf.manifest({n: {"tid": 70 + n, "name": f"thread {n}"} for n in threads}, symbols, {1: "app"}, pid=7, **more)
    files = {n: (70 + n, events, details if n == 0 else ()) for n, events in threads.items()}
    tf.write_process(Path(root, NAME), 7, files, content)
    return Caller(root)


def ev(time, function, kind, depth, detail_seq=tf.NONE):
    return tf.event(time, 1 << 32 | function, kind, depth, detail_seq)


def test_an_exception_is_followed_through_finally_by_its_type_and_message(tmp_path):
    said = {"type": "app.Bad", "message": "no\nway"}
    events = [
        *(ev(100, 1, CALL, 1), ev(110, 2, CALL, 2), ev(120, 3, CALL, 3), ev(130, 3, EXCEPTION, 3, 0)),
        *(ev(131, 4, CALL, 3), ev(132, 4, RETURN, 3), ev(140, 2, EXCEPTION, 2, 1)),  # a finally ran in between
        *(ev(150, 2, CALL, 2), ev(160, 3, CALL, 3), ev(170, 3, EXCEPTION, 3, 2)),
        *(ev(171, 4, CALL, 3), ev(172, 4, RETURN, 3), ev(180, 2, EXCEPTION, 2, 3)),  # another one
        *(ev(190, 2, CALL, 2), ev(191, 3, CALL, 3), ev(192, 3, EXCEPTION, 3, 4), ev(193, 2, EXCEPTION, 2, 5), ev(200, 1, RETURN, 1)),
    ]
    of = [
        (3, said),
        (6, said),
        (9, said),
        (12, {"type": "builtins.KeyError", "message": "x"}),
        (16, said),
        (17, {"type": "app.Worse", "message": ""}),
    ]
    call = session(tmp_path, {0: events}, [detail(seq, 18, pack(what)) for seq, what in of])
    claims = claims_of(call, "exception")
    texts = {claim["text"] for claim in claims}
    assert 'KeyError "x" was raised in app.handle, and was caught in app.main, which returned' in texts
    assert 'app.Bad "no\\nway" was raised in app.load, and was caught in app.handle, which was left by another one' in texts
    (through,) = [claim for claim in claims if claim["value"] == 2]
    assert through["text"].startswith(
        '2 × app.Bad (such as "no\\nway") was raised in app.load, left app.handle, and was caught in app.main'
    )
    assert resolve(call, through)[1][0]["detail"]["message"] == "no\nway"
    assert not any("\n" in claim["text"] for claim in claims)


def test_an_exception_that_became_another_and_that_nothing_caught(tmp_path):
    events = [ev(100, 1, CALL, 1), ev(110, 2, CALL, 2), ev(120, 2, EXCEPTION, 2, 0), ev(130, 1, EXCEPTION, 1, 1)]
    of = [(2, {"type": "builtins.OSError", "message": "disk"}), (3, {"type": "app.Down", "message": "sorry"})]
    call = session(tmp_path, {0: [*events, ev(140, 4, CALL, 1), ev(141, 4, RETURN, 1)]}, [detail(seq, 18, pack(what)) for seq, what in of])
    (claim,) = claims_of(call, "exception")
    assert claim["text"] == (
        'OSError "disk" was raised in app.handle, left app.main as app.Down, and nothing that was recorded caught it: '
        "2 events followed on thread thread 0 (70)"
    )
    assert claim["spanIds"] == ["70:110:1", "70:100:0"] and claim["eventIds"] == ["70:2"]


@pytest.mark.parametrize(("after", "first"), [(3, "fetch"), (600, "handle")])
def test_what_the_thread_went_on_after_for_long_was_caught_by_something(tmp_path, after, first):
    """Code that was not recorded may catch: what did not end the thread is no more than what was caught, and that is more often."""
    refused = [(2, CALL, 2), (2, EXCEPTION, 2), (2, CALL, 2), (2, EXCEPTION, 2)]
    steps = [(4, CALL, 1), (4, EXCEPTION, 1), (1, CALL, 1), *refused, *[(3, CALL, 2), (3, RETURN, 2)] * after, (1, RETURN, 1)]
    call = session(tmp_path, {0: [ev(100 + at, *step) for at, step in enumerate(steps)]})
    assert [claim["functionName"] for claim in claims_of(call, "exception")] == [first, "handle" if first == "fetch" else "fetch"]


@pytest.mark.parametrize(("module", "first"), [("__main__", True), ("shop", False)])
def test_what_leaves_the_program_s_own_module_ended_it(tmp_path, module, first):
    """However much the interpreter does to print it. Another module that was left so was being imported by something that went on."""
    symbols = {1 << 32 | 1: ("handle", "/src/app.py", 1), 2 << 32 | 1: ("<module>", "/src/main.py", 1)}
    refused = [(100 + at, 1, CALL if at % 2 == 0 else EXCEPTION) for at in range(8)]
    died = [(110, 2, CALL), (111, 2, EXCEPTION)]
    printed = [(120 + at, 1, CALL if at % 2 == 0 else RETURN) for at in range(1200)]
    events = [tf.event(time, function << 32 | 1, kind, 1) for time, function, kind in (*refused, *died, *printed)]
    content = tf.manifest({0: {"tid": 70, "name": "MainThread"}}, symbols, {1: "app", 2: module}, pid=7)
    tf.write_process(Path(tmp_path, NAME), 7, {0: (70, events, ())}, content)
    names = [claim["functionName"] for claim in claims_of(Caller(tmp_path), "exception")]
    assert sorted(names) == ["<module>", "handle"] and (names[0] == "<module>") is first


def test_an_exception_without_a_detail(tmp_path):
    call = session(tmp_path, {0: [ev(100, 1, CALL, 1), ev(120, 2, CALL, 2), ev(130, 2, EXCEPTION, 2), ev(140, 1, RETURN, 1)]})
    (claim,) = claims_of(call, "exception")
    assert claim["text"] == "an exception (its type was not recorded) was raised in app.handle, and was caught in app.main, which returned"


def test_what_ran_when_the_recording_ended(tmp_path):
    running = [
        ev(100, 1, CALL, 1),
        ev(110, 2, CALL, 2),
        ev(120, 3, CALL, 3),
        ev(130, 3, RETURN, 3),
        ev(150, 4, CALL, 3),
        ev(160, 5, CALL, 4),
    ]
    suspended = [
        ev(100, 5, CALL, 1),
        ev(110, 5, YIELD, 1),
        ev(115, 5, CALL, 1),
        ev(120, 5, YIELD, 1),
        ev(200, 4, CALL, 1),
        ev(250, 4, RETURN, 1),
    ]
    call = session(tmp_path, {0: running, 1: suspended}, status="recovered")
    stack, generators = claims_of(call, "open")
    assert stack["text"] == (
        "thread thread 0 (70) was in app.main → app.handle → app.fetch → app.rows when the recording ended, in the last for 90 ns"
    )
    spans, _ = resolve(call, stack)
    assert [span["functionName"] for span in spans] == ["rows", "fetch", "handle", "main"] and {s["status"] for s in spans} == {"open"}
    assert generators["text"] == "suspended to the end: 2 generators or coroutines of app.rows" and generators["value"] == 2
    assert {span["status"] for span in resolve(call, generators)[0]} == {"open"}


def test_what_was_lost(tmp_path):
    first = [ev(100, 1, CALL, 1), tf.event(110, 7, GAP, 1), tf.event(120, 5, GAP, 2), ev(130, 1, RETURN, 1), ev(140, 2, RETURN, 1)]
    call = session(tmp_path, {0: first})
    gap, orphan = claims_of(call, "lost")
    assert gap["value"] == 12 and gap["text"].startswith("lost on thread thread 0 (70): 12 events (") and "inside 1 call" in gap["text"]
    spans, events = resolve(call, gap)
    assert [span["status"] for span in spans] == ["lost"] and {e["event"]["eventType"] for e in events} == {"Gap"} and len(events) == 2
    assert orphan["value"] == 1 and orphan["text"].startswith("without a call: 1 return") and orphan["eventIds"] == ["70:4"]


def test_outliers_and_repetition(tmp_path):
    events, now = [ev(100, 1, CALL, 1), ev(110, 2, CALL, 2)], 110
    for n in range(30):
        events += [ev(now + 10, 4, CALL, 3), ev(now + (5000 if n == 11 else 20), 4, RETURN, 3)]
        now += 5000 if n == 11 else 20
    events += [ev(now + 10, 2, RETURN, 2), ev(now + 20, 2, CALL, 2), ev(now + 21, 4, CALL, 3), ev(now + 31, 4, RETURN, 3)]
    call = session(tmp_path, {0: [*events, ev(now + 40, 2, RETURN, 2), ev(now + 50, 1, RETURN, 1)]})
    (outlier,) = claims_of(call, "outlier")
    assert (
        outlier["value"] == 499
        and outlier["text"] == "one call of app.fetch took 4.99 µs itself, 499 times the median of 10 ns of 31 calls"
    )
    assert [span["selfTimeNs"] for span in resolve(call, outlier)[0]] == [4990, 10]
    (repetition,) = claims_of(call, "repetition")
    assert repetition["value"] == 30 and repetition["text"].startswith("one call of app.handle called app.fetch 30 times, about ")
    assert repetition["text"].endswith("; 2 calls of it did so 31 times in all")
    caller, first, last = resolve(call, repetition)[0]
    assert (caller["functionName"], first["functionName"], last["functionName"]) == ("handle", "fetch", "fetch")
    assert caller["childCount"] == 30 and first["startTimeNs"] < last["startTimeNs"] < caller["endTimeNs"]


def test_what_ran(tmp_path):
    call = session(tmp_path, {0: [ev(100, 1, CALL, 1), ev(1_500_100, 1, RETURN, 1)]}, argv=["app.py", "a b; rm -rf\n"], exit=3)
    (claim,) = claims_of(call, "overview")
    assert claim["text"] == "\"app.py 'a b; rm -rf\\n'\" ran 1.50 ms: 1 process, 1 thread, 2 events, 1 call; complete; exit 3"
    assert [event["event"]["timestampNs"] for event in resolve(call, claim)[1]] == [100, 1_500_100] and claim["value"] == 1_500_000


def test_what_ran_from_far_away(tmp_path):
    """A command that is too long to tell loses its directories before it loses its program."""
    argv = ["/a/very/long/way/" * 5 + "python", "-X", "dev", "/another/very/long/way/" * 5 + "my program.py", "--fast"]
    call = session(tmp_path, {0: [ev(100, 1, CALL, 1), ev(1_500_100, 1, RETURN, 1)]}, argv=argv, exit=1)
    (claim,) = claims_of(call, "overview")
    assert claim["text"].startswith("\"…/python -X dev …/'my program.py' --fast\" ran 1.50 ms: ")


@pytest.mark.parametrize("seed", range(3))
def test_every_id_is_one(tmp_path, seed):
    write(tmp_path, seed, 500)
    call = Caller(tmp_path)
    result = call("trace.summary", NAME, maxTokens=20_000)
    assert len({claim["kind"] for claim in result["claims"]}) >= 7 and not result["didTruncate"]
    for claim in result["claims"]:
        assert any(resolve(call, claim)), claim


def test_texts_are_bounded_and_prefer_the_first_of_each_kind(tmp_path):
    write(tmp_path, 2, 500)
    call = Caller(tmp_path)
    whole = call("trace.summary", NAME, maxTokens=20_000)
    assert whole["text"].splitlines() == [line(msgspec.convert(claim, Claim)) for claim in whole["claims"]]
    assert [KINDS.index(claim["kind"]) for claim in whole["claims"]] == sorted(KINDS.index(claim["kind"]) for claim in whole["claims"])
    for tokens in (50, 120, 300, 600):
        result = call("trace.summary", NAME, maxTokens=tokens)
        assert len(result["text"].encode()) <= tokens * 4 and result["estimatedTokens"] <= tokens
        assert result["didTruncate"] == (result["claims"] != whole["claims"])
        shown = collections.Counter(claim["kind"] for claim in result["claims"])
        missing = {kind: n - shown[kind] for kind, n in collections.Counter(c["kind"] for c in whole["claims"]).items()}
        assert result["omitted"] == {kind: n for kind, n in missing.items() if n}
        for kind in shown:
            assert [c for c in whole["claims"] if c["kind"] == kind][: shown[kind]] == [c for c in result["claims"] if c["kind"] == kind]
    assert len({claim["kind"] for claim in call("trace.summary", NAME, maxTokens=500)["claims"]}) >= 5


def test_answers_fit_and_are_the_same_again(tmp_path):
    write(tmp_path, 3, 500)
    assert len(Caller(tmp_path, answer_bytes=4000).bytes("trace.summary", NAME, maxTokens=20_000)) <= 4000
    assert timeless(Caller(tmp_path)("trace.summary", NAME)) == timeless(Caller(tmp_path)("trace.summary", NAME))


def test_without_a_span(tmp_path):
    write(tmp_path, 1, 0, processes=1)
    result = Caller(tmp_path)("trace.summary", NAME)
    assert [claim["kind"] for claim in result["claims"]] == ["overview"] and "0 events, 0 calls" in result["text"]


def test_a_kind_that_is_full_keeps_its_order():
    def claim(kind, text):
        return Claim(kind=kind, text=text, value=0, unit="ns", span_ids=[], event_ids=[])

    claims = [claim("self", "a" * 10), claim("self", "b" * 50), claim("self", "c"), claim("path", "d" * 10)]
    assert [c.text[0] for c in fitting(claims, KINDS, 30)] == ["a", "d"]


@given(st.floats(0, 1e14))
def test_durations_are_near_what_they_say(ns):
    amount, unit = duration(ns).replace(",", "").split()
    size = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1}[unit]
    assert abs(float(amount) * size - ns) <= max(0.5, ns * 0.0051)


def test_words():
    assert (duration(999), duration(1000), duration(99_960), duration(12_340_000), duration(2e12)) == (
        "999 ns",
        "1.00 µs",
        "100 µs",
        "12.3 ms",
        "2,000 s",
    )
    assert share(1, 0) == "0.0 %" and share(1, 3) == "33 %" and number(1000, "call") == "1,000 calls"
    assert quoted('a"\n') == '"a\\"\\n"' and len(quoted("x" * 500)) == 122 and quoted({"~": "app.M"}) == '"{\\"~\\": \\"app.M\\"}"'
