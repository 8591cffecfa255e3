"""A query server that has methods which misbehave, beside the real ones."""

import sys
import time


def misbehave():
    """Methods that take their time, with (sleep) and without (stuck) looking at it, or answer too much (long)."""
    from atf.query.params import Params
    from atf.query.rpc import Method
    from atf.query.serve import run

    class Much(Params):
        amount: float = 1

    class Scan(Params):
        trace_id: str
        amount: float = 1

    seen = []

    def sleep(context, params):
        until = time.monotonic() + params.amount
        try:
            while time.monotonic() < until:
                context.check()
                time.sleep(0.005)
        except Exception as why:
            seen.append(str(why))
            raise
        return "slept"

    def stuck(context, params):
        time.sleep(params.amount)
        return "woke"

    def scan(context, params):
        """Reads mapped records again and again, as a long query does, until there is a file `stop` beside the trace."""
        view = context.traces.view(params.trace_id)
        threads = [thread.events for thread in view.trace.threads]
        until = time.monotonic() + params.amount
        (view.path.parent / "scanning").touch()
        sums = [0]
        while time.monotonic() < until and not (len(sums) > 1 and (view.path.parent / "stop").exists()):
            sums.append(sum(int(events["event_kind"].sum()) for events in threads))
            context.check()
        return sums[-1]

    methods = [
        Method("test.modules", Much, list, lambda context, params: sorted(sys.modules), ""),
        Method("test.scan", Scan, int, scan, ""),
        Method("test.sleep", Much, str, sleep, ""),
        Method("test.stuck", Much, str, stuck, ""),
        Method("test.long", Much, str, lambda context, params: "x" * int(params.amount), ""),
        Method("test.seen", Much, list, lambda context, params: seen, ""),
        Method("test.threads", Much, int, lambda context, params: __import__("threading").active_count(), ""),
    ]
    real = run.all_methods
    run.all_methods = lambda: [*real(), *methods]


if __name__ == "__main__":
    misbehave()
    from atf.query.__main__ import main

    raise SystemExit(main())
