"""Damage of every kind, seeded. FORBIDDEN: a crash, an error that is not ours, and an event that nobody wrote.

An event may differ from what was written only where the damage lies inside that very record's 32 bytes.
ATF_FUZZ_ROUNDS sets the number of random rounds (1,000; the full run is 10,000).
"""

import os
import random
import sys
from pathlib import Path

import msgspec
import numpy
import pytest

from atf._core.errors import AtfError, FormatError
from atf._core.reader import DetailFile, IndexFile
from atf.trace import open_trace

sys.path.insert(0, str(Path(__file__).parents[1]))
import oracle
import tracefiles as tf

pytestmark = pytest.mark.at_rest

ROUNDS = int(os.environ.get("ATF_FUZZ_ROUNDS", "1000"))
SEED = 20260101


def small_trace(base_ns):
    """Events of nested calls, every third with a detail, and the details."""
    events, details = [], []
    for i in range(24):
        depth = 1 + i % 4 if i % 8 < 4 else 4 - i % 4
        kind = tf.CALL if i % 8 < 4 else tf.RETURN
        link = tf.NONE
        if i % 3 == 0:
            link = len(details)
            payload = msgspec.msgpack.encode({"args": {"i": i, "text": "x" * i}} if kind == tf.CALL else {"value": i})
            details.append(tf.detail(i, 16 if kind == tf.CALL else 17, payload, base_ns + 50 * i))
        events.append(tf.event(base_ns + 50 * i, 1 << 32 | depth, kind, depth, link))
    return events, details


# An uptime of ten seconds puts valid kinds into a footer's third field; an uptime of days does not.
TRACES = [small_trace(10_000_000_000), small_trace(900_000_000_000_000)]


def raw(file):
    return [event.tobytes() for event in file.events]


@pytest.mark.parametrize("finalized", [True, False])
@pytest.mark.parametrize("events,details", TRACES, ids=["ten seconds up", "days up"])
def test_every_truncation_point_of_an_index(tmp_path, events, details, finalized):
    data = tf.index_bytes(events, finalized=finalized)
    path = tmp_path / "index.atf"
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        if size < 64:
            with pytest.raises(FormatError):
                IndexFile(path)
            continue
        # Every whole record before the cut, and nothing else.
        assert raw(IndexFile(path)) == events[: (size - 64) // 32] == oracle.recover_index(data[:size]), size


def damage(rng, data):
    """(damaged bytes, set of damaged positions): one to four wounds in place, perhaps a cut or an addition."""
    data, touched = bytearray(data), set()
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        # Headers and footers are small, and matter most.
        at = rng.choice([rng.randrange(len(data)), rng.randrange(min(64, len(data))), len(data) - 1 - rng.randrange(min(64, len(data)))])
        wound = rng.randrange(6)
        if wound == 0:
            data[at] ^= 1 << rng.randrange(8)
            touched.add(at)
        elif wound == 5:
            size = rng.choice([4, 8])
            value = rng.choice([0, 1, 0xFFFFFFFF, 2**63, len(data), 64, rng.randrange(2**32)]).to_bytes(8, "little")[:size]
            at = at // size * size
            touched.update(i for i in range(at, min(at + size, len(data))) if data[i] != value[i - at])
            data[at : at + size] = value[: len(data) - at]
        else:
            size = rng.choice([1, 4, 8, 32, 64, 200])
            new = bytes(size) if wound == 1 else b"\xff" * size if wound == 2 else rng.randbytes(size)
            for i in range(at, min(at + size, len(data))):
                if data[i] != new[i - at]:
                    data[i] = new[i - at]
                    touched.add(i)
    if rng.random() < 0.25:
        del data[rng.randrange(len(data)) :]
    if rng.random() < 0.15:
        size = rng.randrange(200)
        touched.update(range(len(data), len(data) + size))
        data += bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
    return bytes(data), touched


def test_random_damage_to_an_index_invents_nothing(tmp_path):
    rng = random.Random(SEED)
    path = tmp_path / "index.atf"
    refused = returned = 0
    for number in range(ROUNDS):
        events, _ = rng.choice(TRACES)
        data, touched = damage(rng, tf.index_bytes(events, finalized=rng.random() < 0.7))
        path.write_bytes(data)
        try:
            file = IndexFile(path)
        except FormatError:
            refused += 1
            assert len(data) < 64 or touched & set(range(28)), f"round {number}: refused though its identity is whole"
            continue
        got = raw(file)
        assert got == oracle.recover_index(data), f"round {number}"
        for i, record in enumerate(got):
            written = i < len(events) and record == events[i]
            assert written or touched & set(range(64 + 32 * i, 96 + 32 * i)), f"round {number}: event {i} was never written"
        returned += len(got)
    assert refused > ROUNDS // 20 and returned > ROUNDS * 5  # the damage is neither fatal always nor never


def test_random_damage_to_details_invents_nothing(tmp_path):
    rng = random.Random(SEED + 1)
    (tmp_path / "index.atf").write_bytes(b"")
    followed = 0
    for number in range(ROUNDS):
        events, details = rng.choice(TRACES)
        whole = tf.detail_bytes(details)
        data, touched = damage(rng, whole)
        (tmp_path / "detail.atf").write_bytes(data)
        array = numpy.frombuffer(b"".join(events), dtype="<u8,<u8,<u4,<u4,<u4,<u4")
        try:
            file = DetailFile(tmp_path / "detail.atf")
            for i in range(len(events)):
                found = file.of_event(i, int(array[i]["f5"]))
                if found is None:
                    continue
                at = 64 + sum(map(len, details[: int(array[i]["f5"])]))
                mine = details[int(array[i]["f5"])]
                assert bytes(found.payload) == mine[24:] or touched & set(range(at, at + len(mine))), f"round {number}: detail of {i}"
                followed += 1
        except FormatError:
            continue
    assert followed > ROUNDS


def exercise(trace):
    info = trace.info
    assert info["events"] == sum(1 for _ in trace.events()) == len(trace.events())
    for event in trace.events(limit=50):
        repr(event), event.detail, event.reason
    for span in trace.spans(order_by="duration", limit=50):
        repr(span), span.args, span.result, span.exception, span.parent, span.children
        assert span.duration_ns >= 0 and span.active_ns >= 0 and span.self_ns >= 0
    for group in ("function", "module", "file", "thread"):
        trace.top(group=group)
    list(trace.tree().walk())
    trace.spans(function="*a*", status="ok"), len(trace.events(function="*", kind="call"))
    trace.check()


def test_random_damage_to_a_session_raises_nothing_but_our_errors(tmp_path):
    rng = random.Random(SEED + 2)
    events, details = TRACES[0]
    names = {1 << 32 | i: (f"name{i}", "/src/app.py", i) for i in range(1, 5)}
    session = tmp_path / "session_20260101_000000"
    place = tf.write_process(
        session,
        5,
        {n: (100 + n, events, details) for n in range(3)},
        tf.manifest({n: {"tid": 100 + n, "name": f"t{n}", "lost": 0} for n in range(3)}, names, {1: "app"}, lost={"exhausted": 3}),
    )
    files = {path: path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()}
    assert len(files) == 7
    exercise(open_trace(session))
    opened = 0
    for _ in range(ROUNDS // 4):
        hurt = rng.sample(sorted(files), rng.choice([1, 1, 2, 7]))
        for path in hurt:
            path.write_bytes(damage(rng, files[path])[0])
        try:
            with open_trace(session) as trace:
                exercise(trace)
            opened += 1
        except AtfError:
            pass
        for path in hurt:
            path.write_bytes(files[path])
    assert opened > ROUNDS // 5
