"""Beside other tools of the interpreter: trace functions, debuggers, line tools, profilers. None is disturbed, none disturbs."""

import sys

import pytest

from vm_recording import load, recording


def test_beside_settrace(tmp_path):
    names = load("def inner(): return 1\ndef main():\n    x = inner()\n    return x")
    seen = []

    def tracer(frame, event, arg):
        if frame.f_globals is names:
            seen.append((frame.f_code.co_name, event))
        return tracer

    before = sys.gettrace()
    with recording(tmp_path) as recorded:
        sys.settrace(tracer)
        names["main"]()
        sys.settrace(before)
    assert recorded.lines() == ["call main", "  call inner", "  return inner", "return main"]
    assert seen == [("main", "call"), ("main", "line"), ("inner", "call"), ("inner", "line"), ("inner", "return"), ("main", "line"), ("main", "return")]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring")
def test_beside_a_line_tool_of_sys_monitoring(tmp_path):
    names = load("def inner(): return 1\ndef main():\n    for _ in range(3): inner()")
    monitoring, seen = sys.monitoring, []

    def on_line(code, line):
        seen.append((code.co_name, line))
        return monitoring.DISABLE

    tool = next(i for i in (1, 2, 0, 5, 4) if monitoring.get_tool(i) is None)
    monitoring.use_tool_id(tool, "lines")
    try:
        monitoring.register_callback(tool, monitoring.events.LINE, on_line)
        for code in (names["main"].__code__, names["inner"].__code__):
            monitoring.set_local_events(tool, code, monitoring.events.LINE)
        with recording(tmp_path) as recorded:
            names["main"]()
    finally:
        monitoring.free_tool_id(tool)
    assert recorded.lines() == ["call main", *["  call inner", "  return inner"] * 3, "return main"]
    assert sorted(seen) == [("inner", 1), ("main", 3)]


def test_a_debugger_that_quits(tmp_path):
    """A trace function that raises at a call's very start: the call is in the record, or it is not, but depths hold."""
    names = load("def inner(): return 1\ndef main():\n    try: inner()\n    except RuntimeError: pass\ndef after(): pass")

    def tracer(frame, event, arg):
        if frame.f_code.co_name == "inner":
            raise RuntimeError("quit")
        return None

    before = sys.gettrace()
    with recording(tmp_path) as recorded:
        sys.settrace(tracer)
        names["main"]()
        sys.settrace(before)
        names["after"]()
    assert recorded.balance() == (0, 0)
    assert recorded.lines()[-2:] == ["call after", "return after"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the profile hook")
def test_another_profiler_stays(tmp_path):
    from atf.errors import SessionError

    seen = []
    sys.setprofile(lambda *event: seen.append(event[1]))
    try:
        with pytest.raises(SessionError, match="has a profiler already"):
            with recording(tmp_path, "c"):
                pass
        seen.clear()
        load("def main(): pass")["main"]()
    finally:
        sys.setprofile(None)
    assert "call" in seen
