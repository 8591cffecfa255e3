"""Claims about what ran and what went wrong: the recording itself, losses, exceptions, calls that never ended."""

from __future__ import annotations

import os
import shlex
from typing import Any

from atf._core.layout import GAP_REASONS, NOT_KEPT
from atf._core.merge import Merge
from atf._core.spans import NO_SEQ, STATUS
from atf.query.chunks import chunks
from atf.query.findings import Claim, Subject
from atf.query.raised import Group, exceptions
from atf.query.spanset import Filter, Ref
from atf.query.words import cut, duration, named, number, quoted

_RETURN, _EXCEPTION, _GAP = 2, 3, 8
_MOST_ARGV = 100
_MOST_PROCESSES = 5
_MOST_GROUPS = 10
_MOST_STACK = 6
_ON = {"ok": "which returned", "exception": "which was left by another one", "open": "which still ran at the end"}
_ON |= {"unwound": "which was unwound", "lost": "in which events were lost"}


def overview(subject: Subject) -> list[Claim]:
    """What ran, for how long, and whether the recording is whole; then a claim for each further process."""
    info, trace = subject.view.info, subject.view.trace
    processes = sorted(info["processes"], key=lambda p: p["parent_pid"] in {q["pid"] for q in info["processes"]})
    parts = [
        number(len(processes), "process", "processes"),
        number(info["threads"], "thread"),
        number(info["events"], "event"),
        number(len(subject.spans), "call"),
    ]
    first = processes[0] if processes else {}
    status = {"recording": "still being recorded", "interrupted": "the recording was interrupted"}.get(info["status"], info["status"])
    text = f"{_command(first)} ran {duration(info['duration_ns'] or 0)}: {', '.join(parts)}; {status}{_exit(first)}"
    at = [t for t in trace.threads if len(t.index)]
    ends = []
    if at:
        begun = min(at, key=lambda t: (int(t.events["timestamp_ns"][0]), t.position))
        ended = max(at, key=lambda t: (int(t.events["timestamp_ns"][-1]), -t.position))
        ends = [subject.event_id(begun.position, 0), subject.event_id(ended.position, len(ended.index) - 1)]
    claims = [_claim("overview", text, info["duration_ns"] or 0, "ns", events=ends)]
    for process in processes[1:_MOST_PROCESSES]:
        mine = [t for t in at if t.process.pid == process["pid"]]
        events = sum(len(t.index) for t in mine)
        text = f"process {process['pid']}, {_command(process)}, recorded {number(events, 'event')}{_exit(process)}"
        claims.append(_claim("overview", text, events, "events", events=[subject.event_id(t.position, 0) for t in mine[:3]]))
    return claims


def _command(process: dict[str, Any]) -> str:
    argv = process.get("argv")
    words = [str(word) for word in argv] if isinstance(argv, list) else []
    text = shlex.join(words)
    if len(text) > _MOST_ARGV:  # which program it was matters more than where it lies
        text = " ".join(shlex.quote(word) if "/" not in word else "…/" + shlex.quote(os.path.basename(word)) for word in words)
    return quoted(cut(text, _MOST_ARGV)) if words else "a program"


def _exit(process: dict[str, Any]) -> str:
    code = process.get("exit")
    return f"; exit {code}" if isinstance(code, int) else ""


def _claim(kind: Any, text: str, value: int, unit: Any, spans: list[str] | None = None, events: list[str] | None = None) -> Claim:
    return Claim(kind=kind, text=text, value=value, unit=unit, span_ids=spans or [], event_ids=events or [])


def lost(subject: Subject) -> list[Claim]:
    """Gaps, by thread: how many events are missing, and how many calls are not known whole. First what cannot be read."""
    claims, spans = [], subject.spans
    unread = [_claim("lost", f"cannot be read: {problem}", 0, "events") for problem in subject.view.problems]
    if spans.counts["gaps"]:
        for thread in subject.view.trace.threads:
            subject.check()
            merge = Merge([thread.events], kinds=1 << _GAP)
            missing = 0
            reasons: set[int] = set()
            seqs: list[int] = []
            for threads, positions in merge.chunks():
                gaps = merge.gather(threads, positions)
                lossy = gaps["call_depth"] < NOT_KEPT
                gaps, positions = gaps[lossy], positions[lossy]
                missing += int(gaps["function_id"].sum())
                reasons |= set(gaps["call_depth"].tolist())
                seqs += positions[: 3 - len(seqs)].tolist() if len(seqs) < 3 else []
            if seqs:
                wounded = spans.select(Filter(threads=frozenset([thread.position]), statuses=frozenset(["lost"])), limit=3)
                why = ", ".join(GAP_REASONS.get(reason, f"reason {reason}") for reason in sorted(reasons))
                text = f"lost on thread {thread.name} ({thread.tid}): {number(missing, 'event')} ({why}), inside {number(wounded.total, 'call')}"
                events = [subject.event_id(thread.position, seq) for seq in seqs]
                claims.append(_claim("lost", text, missing, "events", subject.ids(wounded.refs), events))
    orphans = spans.counts["returns_without_call"]
    if orphans:
        text = f"without a call: {number(orphans, 'return')}, of calls that began before the recording, or whose begin was lost"
        claims.append(_claim("lost", text, orphans, "events", events=_orphans(subject)))
    return unread + sorted(claims, key=lambda claim: -claim.value)


def _orphans(subject: Subject) -> list[str]:
    """The first ends of calls that no span ends with."""
    import numpy

    found: list[str] = []
    for thread in subject.view.trace.threads:
        kinds = thread.events["event_kind"]
        loose = (kinds == _RETURN) | (kinds == _EXCEPTION)
        for rows in chunks(subject.spans, frozenset([thread.position]), subject.check):
            loose[rows.end_seq[rows.end_seq != NO_SEQ]] = False
        found += [subject.event_id(thread.position, seq) for seq in numpy.flatnonzero(loose)[:3].tolist()]
        if len(found) >= 3:
            break
    return found[:3]


def raised(subject: Subject) -> list[Claim]:
    """Exceptions by where they were raised and caught."""
    return [_raised(subject, group) for group in exceptions(subject.spans, subject.check)[:_MOST_GROUPS]]


def _raised(subject: Subject, group: Group) -> Claim:
    types = sorted(group.types.items(), key=lambda item: (-item[1], item[0] or ""))
    known = [type for type, _ in types if type is not None]
    what = " or ".join(cut(type, 80) for type in known[:3]) if known else "an exception (its type was not recorded)"
    if group.message is not None:
        what += f" {quoted(group.message)}" if group.count == 1 else f" (such as {quoted(group.message)})"
    path = subject.spans.path(group.origin)
    chain = [(int(t), int(row)) for t, row in zip(path.thread, path.row)]
    passed = chain[chain.index(group.top) :][::-1]
    names = [named(subject.label_of(ref)) for ref in passed[:_MOST_STACK]]
    through = f", left {', '.join(names[1:])}" + (" and more" if len(passed) > _MOST_STACK else "") if len(passed) > 1 else ""
    through += f" as {cut(group.became, 80)}" if group.became else ""
    times = f"{group.count:,} × " if group.count > 1 else ""
    if group.catcher is None:
        thread = subject.spans.threads[group.origin[0]]
        end = f"and nothing that was recorded caught it: {number(group.followed, 'event')} followed on thread {thread.name} ({thread.tid})"
    else:
        status = STATUS[int(subject.spans.gather([group.catcher]).status[0])]
        end = f"and was caught in {named(subject.label_of(group.catcher))}, {_ON[status]}" + (" (the first)" if group.count > 1 else "")
    claim = _claim(
        "exception",
        f"{times}{what} was raised in {names[0]}{through}, {end}",
        group.count,
        "exceptions",
        subject.ids([group.origin, *([group.top] if group.top != group.origin else []), group.catcher]),
        [subject.event_id(group.origin[0], group.end_seq)],
    )
    label = subject.labels[group.raised_in]
    claim.function_name, claim.module_name = label.name, label.module
    return claim


def unended(subject: Subject) -> list[Claim]:
    """What ran on each thread when its recording ended, and what was suspended then."""
    import numpy

    running: dict[int, Ref] = {}
    suspended: dict[int, list[Ref]] = {}
    counts: dict[int, int] = {}
    for rows in chunks(subject.spans, check=subject.check):
        still = rows.status == STATUS.index("open")
        thread = int(rows.thread[0])
        top = numpy.flatnonzero(still & (rows.end_seq == NO_SEQ))
        if len(top):  # the last called is on top
            running[thread] = (thread, int(rows.row[top[-1]]))
        for at in (waiting := numpy.flatnonzero(still & (rows.end_seq != NO_SEQ)))[:3].tolist():
            suspended.setdefault(int(subject.member[int(rows.function[at])]), []).append((thread, int(rows.row[at])))
        for label, count in zip(*(part.tolist() for part in numpy.unique(subject.member[rows.function[waiting]], return_counts=True))):
            counts[label] = counts.get(label, 0) + count
            suspended.setdefault(label, [])
    claims = [_running(subject, ref) for ref in running.values()]
    for label, count in counts.items():
        text = (
            f"suspended to the end: {number(count, 'generator or coroutine', 'generators or coroutines')} of {named(subject.labels[label])}"
        )
        claims.append(_claim("open", text, count, "spans", subject.ids(suspended[label][:3])))
    return sorted(claims, key=lambda claim: (claim.unit != "ns", -claim.value))


def _running(subject: Subject, ref: Ref) -> Claim:
    thread = subject.spans.threads[ref[0]]
    path = subject.spans.path(ref)
    stack = [(int(t), int(row)) for t, row in zip(path.thread, path.row)]
    took = int(subject.spans.gather([ref]).duration_ns[0])
    names = [named(subject.label_of(one)) for one in stack[-_MOST_STACK:]]
    chain = ("… → " if len(stack) > len(names) else "") + " → ".join(names)
    text = f"thread {thread.name} ({thread.tid}) was in {chain} when the recording ended, in the last for {duration(took)}"
    return _claim("open", text, took, "ns", subject.ids(stack[-_MOST_STACK:][::-1]))
