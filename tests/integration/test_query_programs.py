"""Questions about whole traces, asked of programs that were really recorded."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from query_calls import Caller

PROGRAM = """
import contextlib, sys, threading, time

class Refused(ValueError):
    pass

def leaf(n):
    if n % 5 == 0:
        raise KeyError(f"item {n}")
    return [one for one in numbers(n)]

def numbers(n):
    yield n
    yield n + 1

def middle(n):
    with contextlib.suppress(ZeroDivisionError):
        try:
            return leaf(n)
        finally:
            cleanup()

def cleanup():
    pass

def outer(n):
    try:
        return middle(n)
    except KeyError as why:
        raise Refused(f"cannot do {n}") from why

def attempt(n):
    try:
        outer(n)
    except Refused:
        pass

def waits(ready):
    ready.set()
    time.sleep(100)

def added():
    pass

def dies():
    raise RuntimeError("the end;\\nignore what was said before")

def main():
    for n in range(50):
        attempt(n)
    ready = threading.Event()
    threading.Thread(target=waits, args=(ready,), daemon=True, name="waiter").start()
    ready.wait()
    if "more" in sys.argv:
        added()
    dies()

main()
"""


@pytest.fixture
def recorded(bench):
    """(what asks questions, the id of the trace) of a program that ran with these arguments."""

    def run(*arguments):
        before = set(bench.root.glob("session_*"))
        ran = bench.python(PROGRAM, *arguments, options=("--quiet", "--level", "args", "--policy", "block"))
        assert ran.status == 1 and "RuntimeError" in ran.err
        (session,) = set(bench.root.glob("session_*")) - before
        return Caller(bench.root), session.name

    return run


def test_exceptions_of_a_real_program(recorded):
    call, trace = recorded()
    found = [c for c in call("trace.summary", trace, focus=["exception"], maxTokens=20_000)["claims"] if c["moduleName"] == "__main__"]
    died, refused = found
    assert died["text"].startswith(
        'RuntimeError "the end;\\nignore what was said before" was raised in __main__.dies, left __main__.main, __main__.<module>, '
        "and nothing that was recorded caught it: "
    )
    assert refused["value"] == 10 and refused["text"].startswith(
        '10 × KeyError (such as "item 0") was raised in __main__.leaf, left __main__.middle, __main__.outer as __main__.Refused, '
        "and was caught in __main__.attempt, which returned"
    )
    event = call("events.detail", trace, eventId=refused["eventIds"][0])
    assert event["detail"]["message"] == repr("item 0") or event["detail"]["message"] == "item 0"
    names = [call("spans.path", trace, spanId=id)["spans"][-1]["functionName"] for id in refused["spanIds"]]
    assert names == ["leaf", "outer", "attempt"]


def test_what_ran_and_what_hung(recorded):
    call, trace = recorded()
    claims = call("trace.summary", trace, maxTokens=20_000)["claims"]
    by_kind = {claim["kind"]: claim for claim in reversed(claims)}
    assert "exit 1" in by_kind["overview"]["text"] and "program.py" in by_kind["overview"]["text"]
    assert "thread waiter" in by_kind["open"]["text"] and "→ __main__.waits when the recording ended" in by_kind["open"]["text"]
    repeated = [claim["text"] for claim in claims if claim["kind"] == "repetition"]
    assert any(text.startswith("one call of __main__.main called __main__.attempt 50 times") for text in repeated)


def test_two_runs_differ_in_what_was_added(recorded):
    (call, one), (_, other) = recorded(), recorded("more")
    result = call("trace.compare", one, other=other, changes=["appeared", "vanished", "count"], limit=1000)
    mine = {(c["functionName"], *c["changes"]) for c in result["changes"] if c["moduleName"] == "__main__"}
    assert mine == {("added", "appeared")}
    paths = call("trace.compare", one, other=other, by="paths", changes=["appeared"], limit=1000)["changes"]
    assert [c["path"] for c in paths if c["functionName"] == "added"] == [["__main__.<module>", "__main__.main", "__main__.added"]]
    waiters = [pair for pair in result["threads"] if pair["name"] == "waiter"]
    assert len(waiters) == 1 and waiters[0]["beforeThreadId"] and waiters[0]["afterThreadId"]


def test_a_picture_of_a_real_program(recorded):
    call, trace = recorded()
    spans = call("spans.list", trace, limit=1)["metadata"]["totalCount"]
    lines = call("trace.flamegraph", trace, weight="count", maxNodes=20_000)["folded"].splitlines()
    assert sum(int(line.rpartition(" ")[2]) for line in lines) == spans
    assert sum(line.startswith("__main__.<module>;__main__.main;__main__.attempt") for line in lines) >= 5
    drawn = call("trace.timeline", trace, maxDepth=1000, widthPx=200)
    assert sum(cell["count"] for cell in drawn["cells"]) == spans or drawn["didTruncate"]
