"""Compares what a program says of itself with what was recorded of it."""

LETTERS = {"call": ">", "return": "<", "exception": "!"}


def lines(text, *letters):
    return [line for line in text.splitlines() if line[:2].strip()[:1] in letters]


def plainly(text):
    """What a program writes, without its counts: those may depend on when signals come."""
    return [line for line in text.splitlines() if not line.startswith(("@", "~"))]


def tree_of(ran):
    """The first thread's calls, returns and exceptions, as a program tells them."""
    with ran.trace() as trace:
        first = min(trace.threads, key=lambda thread: thread.number)
        return [f"{LETTERS[event.kind]} {event.depth} {event.function.name}" for event in trace.events(kind=list(LETTERS)) if event.thread is first]


def check(bench, program, *arguments, plain=None, refused=frozenset(), **options):
    """Run it plain and under the agent. FORBIDDEN: other output, another status, a record too many or too few; a function refused, but for
    the reasons ``refused``: then it is not counted."""
    plain = plain or bench.plain(program, *arguments)
    shown = {line.split()[2] for line in lines(plain[1], *LETTERS.values())}  # depths are of functions that tell
    ran = bench.run(program, *arguments, **({"only": shown} if shown else {}), **options)
    assert (ran.status, plainly(ran.out), ran.err) == (plain[0], plainly(plain[1]), plain[2])
    assert ran.plan.header()["state"] == "active"
    left = ran.plan.refused()
    assert set(left.values()) <= set(refused), left
    check_counts(ran, left)
    told = lines(ran.out, *LETTERS.values())
    if told and not left:
        found = tree_of(ran)
        differs = next((i for i, pair in enumerate(zip(found, told)) if pair[0] != pair[1]), min(len(found), len(told)))
        assert found == told, f"at {differs}: recorded {found[max(differs - 6, 0) : differs + 6]}, told {told[max(differs - 6, 0) : differs + 6]}"
    return ran


def check_counts(ran, left=()):
    told = {name: int(n) for name, n in (line[1:].split() for line in lines(ran.out, "@")) if name not in left}
    calls, skipped = ran.calls(), ran.plan.header()["skipped"]
    if skipped and told:  # handlers that came by hundreds while their thread waited for a slow drain: counted, and a gap
        assert sum(told.values()) - sum(calls.get(name, 0) for name in told) == skipped
    else:
        assert {name: calls.get(name, 0) for name in told} == told
    for name, low, high in (line[1:].split() for line in lines(ran.out, "~") if line[1:].split()[0] not in left):
        assert int(low) - skipped <= calls.get(name, 0) <= int(high), (name, calls, ran.out, ran.plan.header(), ran.counters)
