"""Assertions on programs that were really recorded, by this interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import atf
from atf import ms
from atf.errors import TraceIncomplete
from atf.failure import report

ROOT = Path(__file__).parents[2]
SHOP = """
import asyncio, threading, time
import atf

class Refused(ValueError):
    pass

def rate(amount):
    return amount * 2

def get(key):
    raise KeyError(key)

def price(item):
    try:
        get(item)
    except KeyError:
        return rate(item)

def items(n):
    for item in range(n):
        yield item

def checkout(n):
    with atf.span("pricing", items=n):
        total = sum(price(item) for item in items(n))
    atf.event("retry", reason="timeout", attempt=1)
    pay(total)

def pay(total):
    time.sleep(0)
    raise Refused("card")

async def fetch(n):
    await asyncio.sleep(0)
    return rate(n)

async def fetch_all():
    return [await one for one in [asyncio.create_task(fetch(n)) for n in range(3)]]

def background():
    rate(7)
"""
MAIN = """
import asyncio, sys, threading
import atf, shop
with atf.record(sys.argv[1], level=sys.argv[2], include=["shop"]) as rec:
    try:
        shop.checkout(3)
    except shop.Refused:
        pass
    asyncio.run(shop.fetch_all())
    other = threading.Thread(target=shop.background, name="other")
    other.start()
    other.join()
print(rec.path)
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    place = tmp_path_factory.mktemp("program")
    (place / "shop.py").write_text(SHOP)
    (place / "main.py").write_text(MAIN)
    return place


@pytest.fixture(scope="module")
def recorded(program):
    """{level: a recording}."""

    def record(level):
        paths = [str(program), *([] if os.environ.get("ATF_INSTALLED") else [str(ROOT)])]
        run = [sys.executable, "main.py", f"traces-{level}", level]
        done = subprocess.run(run, cwd=program, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return str(program / done.stdout.strip())

    return {level: record(level) for level in ("args", "returns", "calls")}


NESTED = [lambda t: t.calls("shop.rate", under="shop.checkout") == 3, lambda t: t.calls("shop.rate").max_per("shop.price") == 1]
NESTED += [lambda t: t.calls("shop.get").max_per("shop.checkout") == 3, lambda t: t.calls("rate", under="pricing") == 3]
NESTED += [lambda t: t.order("shop.price", "shop.get", "shop.rate").immediately(), lambda t: t.span("pricing", under="checkout") == 1]


def test_who_called_whom(recorded, tmp_path):
    for level in ("args", "returns", "calls"):
        with atf.open(recorded[level]) as trace:
            for ask in NESTED:
                if level == "calls" and sys.version_info >= (3, 12):
                    with pytest.raises(TraceIncomplete, match="does not tell who called whom"):
                        ask(trace)
                else:
                    assert ask(trace)


@pytest.mark.parametrize("level", ["args", "returns", "calls"])
def test_counts_and_order(recorded, level):
    with atf.open(recorded[level]) as trace:
        assert trace.calls("shop.rate") == 7
        trace.order("shop.checkout", "shop.items", "shop.price", "shop.get", "shop.rate", "shop.pay")
        trace.order("shop.checkout", "shop.pay").strict()
        trace.never("shop.nothing")
        assert trace.event("retry", reason="timeout", attempt=1) == 1 and trace.decision("retry", reason="other") == 0
        assert trace.span("pricing").total < ms(1000)
        for name in ("requests.*", "time.sleep", "os.path.join"):
            with pytest.raises(TraceIncomplete, match="include 'shop'"):
                trace.never(name)


def test_values_times_and_exceptions(recorded):
    with atf.open(recorded["args"]) as trace:
        assert trace.call("shop.pay").args == {"total": 6}
        assert [call.args["amount"] for call in trace.calls("rate", under="price")] == [0, 1, 2]
    for level in ("args", "returns"):
        with atf.open(recorded[level]) as trace:
            checkout, pay = trace.span("shop.checkout"), trace.span("shop.pay")
            assert checkout.total >= trace.span("pricing").total >= trace.span("price").total > 0 and pay.total < checkout.total
            assert checkout.self < checkout.total and trace.span("rate").p50 <= trace.span("rate").max
            assert trace.raised("KeyError").swallowed == 3 and trace.raised("KeyError").escaped == 0
            assert trace.raised("Refused").escaped == 1 and trace.raised("ZeroDivisionError") == 0
            with pytest.raises(TraceIncomplete, match=r"whether shop\.Refused is one is not known here"):
                assert trace.raised(ValueError).escaped == 1
            assert trace.raised(KeyError) >= 3  # whatever the other is


def test_a_window_is_between_two_moments(recorded):
    with atf.open(recorded["args"]) as trace:
        pricing = next(iter(trace.span("pricing")))
        w = trace.window(pricing.start_ns, pricing.end_ns)
        assert w.calls("rate") == 3 and w.calls("pay") == 0 and w.calls("checkout") == 0
        assert w.calls("rate", under="checkout") == 3  # which began before
        assert w.raised(KeyError).swallowed == 3 and w.raised("Refused") == 0


def test_shapes_do_not_depend_on_the_level(recorded, tmp_path):
    for level in ("args", "returns", *(["calls"] if sys.version_info < (3, 12) else [])):
        with atf.open(recorded[level]) as trace:
            # At level calls nobody knows in which of the tasks that take turns a call was made.
            trace.same_shape_as(tmp_path / "base.atf", ignore=["shop.fetch"], update=level == "args")
    text = (tmp_path / "base.atf").read_text()
    assert "thread other\n  shop.background\n    shop.rate\n" in text and "shop.price ×3\n" in text


def test_the_report_of_a_recording(recorded):
    with atf.open(recorded["args"]) as trace:
        text = report(trace.window())
    assert "> shop.checkout(n=3)" in text and "[raised shop.Refused: card]" in text
    assert "  KeyError: 0  raised in shop.get, caught in shop.price" in text and "  other (" in text and "retry(reason='timeout', attempt=1)" in text


def test_filters_stand_in_the_manifest(recorded):
    with atf.open(recorded["args"]) as trace:
        assert [p.manifest.data["filters"] for p in trace.processes] == [{"include": ["shop"], "exclude": [], "python": True}]


def test_decisions_of_a_collector(tmp_path):
    with atf.record(tmp_path, python=False) as rec:
        collector = atf.TraceCollector()
        collector.record_now("retry", "mail", "timed out", request_id="r1", attributes={"reason": "timeout", "attempt": "2", "component": "x"})
        atf.event("retry", reason="refused")
    with atf.open(rec.path) as trace:
        assert trace.decision("retry") == 2 and trace.event("retry") == 1 and trace.event("decision:retry") == 1
        assert trace.decision("retry", reason="timeout", attempt=2, component="mail", request_id="r1").count == 1
        assert trace.decision("re*", reason="refused") == 1 and trace.decision("retry", component="x") == 0
        assert "attempt='2'" in repr(trace.decision("retry", reason="timeout")) and "attributes=" not in repr(trace.decision("retry"))
