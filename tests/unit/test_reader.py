"""Index and detail files: what is accepted, what is cut, what is refused."""

import os
import struct
import sys
from pathlib import Path

import pytest

from atf._core.errors import FormatError, UsageError
from atf._core.layout import EVENT_DTYPE
from atf._core.reader import DetailFile, IndexFile

sys.path.insert(0, str(Path(__file__).parents[1]))
import tracefiles as tf

pytestmark = pytest.mark.at_rest

EVENTS = [tf.event(1000 + 10 * i, 1 << 32 | i, 1 + i % 2, detail_seq=i if i < 4 else tf.NONE) for i in range(20)]
DETAILS = [tf.detail(i, 16, b"p" * (7 * i), 1000 + 10 * i) for i in range(4)]


@pytest.fixture
def write(tmp_path):
    def put(data, name="index.atf"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put


def raw(file):
    return [event.tobytes() for event in file.events]


def patched(data, at, value):
    return data[:at] + value + data[at + len(value) :]


def test_a_finalized_file(write):
    file = IndexFile(write(tf.index_bytes(EVENTS, tid=4711)))
    assert raw(file) == EVENTS and len(file) == 20
    assert file.report == ("finalized", 20, 0, 0, ())
    assert (file.thread_id, file.arch, file.os, file.clock_type) == (4711, 1, 4, 3)
    assert file.verify() is True


def test_events_are_the_mapped_file_and_cannot_be_written(write):
    path = write(tf.index_bytes(EVENTS))
    events = IndexFile(path).events
    assert events.dtype == EVENT_DTYPE and events.base is not None and not events.flags.writeable
    with open(path, "r+b") as file:  # a detail_seq patched in place is seen: it is no copy
        file.seek(64 + 28)
        file.write(struct.pack("<I", 77))
    assert events[0]["detail_seq"] == 77


def test_arrays_outlive_their_file_object(write):
    path = write(tf.index_bytes(EVENTS))
    events = IndexFile(path).events
    path.unlink()
    assert events["timestamp_ns"].sum() == sum(1000 + 10 * i for i in range(20))


def test_no_descriptor_stays_open(write):
    path = write(tf.index_bytes(EVENTS))
    before = len(os.listdir("/proc/self/fd"))
    files = [IndexFile(path) for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before and len(files) == 50


@pytest.mark.parametrize("events", [[], EVENTS[:1], EVENTS])
def test_empty_and_short_files(write, events):
    assert raw(IndexFile(write(tf.index_bytes(events)))) == events


def test_a_growing_file_is_readable_and_not_damaged(write):
    data = tf.index_bytes(EVENTS, finalized=False)
    file = IndexFile(write(data))
    assert raw(file) == EVENTS and file.report.status == "growing" and file.report.bytes_cut == 0
    file = IndexFile(write(data + EVENTS[0][:11]))  # a record in flight
    assert raw(file) == EVENTS and file.report.status == "growing" and file.report.bytes_cut == 11


def test_room_that_was_allocated_ahead_is_cut(write):
    file = IndexFile(write(tf.index_bytes(EVENTS, finalized=False) + bytes(32 * 100_000)))
    assert raw(file) == EVENTS and file.report.records_cut == 100_000 and file.report.bytes_cut == 3_200_000


@pytest.mark.parametrize(
    "last", [tf.event(2000, 1, 0), tf.event(2000, 1, 16), tf.event(999, 1, 1)], ids=["kind 0", "kind 16", "before the first"]
)
def test_a_last_record_that_cannot_be_an_event_is_cut(write, last):
    file = IndexFile(write(tf.index_bytes([*EVENTS, last], finalized=False)))
    assert raw(file) == EVENTS and file.report.records_cut == 1
    file = IndexFile(write(tf.index_bytes([*EVENTS, last])))  # not in a file whose footer counts
    assert raw(file) == [*EVENTS, last]


# Uptimes under a minute make a footer look like an event: its third field then is a valid kind.
SMALL_FOOTER = [tf.event(5_000_000_000 + i, 1, 1) for i in range(6)]


@pytest.mark.parametrize("events", [EVENTS, SMALL_FOOTER], ids=["", "footer like an event"])
@pytest.mark.parametrize("field", [0, 8, 16, 32, 40, 56])
def test_a_damaged_footer_is_never_an_event(write, events, field):
    data = tf.index_bytes(events)
    file = IndexFile(write(patched(data, len(data) - 64 + field, b"\xa5" * 8)))
    assert raw(file) == events


@pytest.mark.parametrize("events", [EVENTS, SMALL_FOOTER], ids=["", "footer like an event"])
@pytest.mark.parametrize(
    "at,value",
    [
        (28, b"\x07\0\0\0"),
        (40, struct.pack("<Q", 2**63)),
        (40, struct.pack("<Q", 96)),
        (40, bytes(8)),
        (32, b"\xff" * 8),
        (28, b"\xff" * 4),
    ],
)
def test_a_lying_header_is_found_out(write, events, at, value):
    file = IndexFile(write(patched(tf.index_bytes(events), at, value)))
    assert raw(file) == events


def test_bytes_behind_the_footer_are_no_events(write):
    file = IndexFile(write(tf.index_bytes(EVENTS) + EVENTS[0] * 3))
    assert raw(file) == EVENTS and file.report.status == "recovered" and file.report.bytes_cut == 96


@pytest.mark.parametrize(
    "data,words",
    [
        (b"", "shorter"),
        (b"ATI2", "shorter"),
        (bytes(64), "zeros"),
        (bytes(4096), "zeros"),
        (b"\x7fELF" + bytes(100), "not an ATF"),
        (patched(tf.index_bytes(EVENTS), 0, b"ATD2"), "not an ATF"),
        (patched(tf.index_bytes(EVENTS), 4, b"\x02"), "little-endian"),
        (patched(tf.index_bytes(EVENTS), 5, b"\x02"), "newer"),
        (patched(tf.index_bytes(EVENTS), 24, b"\x40"), "64 bytes"),
    ],
)
def test_what_is_refused(write, data, words):
    with pytest.raises(FormatError, match=words):
        IndexFile(write(data))


def test_places_that_are_no_files(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(FormatError):
            IndexFile(path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FormatError, match="regular"):
        IndexFile(tmp_path / "fifo")


def test_a_file_cut_while_it_is_open_is_told_before_it_is_touched(write):
    path = write(tf.index_bytes(EVENTS * 1000))
    file = IndexFile(path)
    os.truncate(path, 4096)
    with pytest.raises(FormatError, match="while it was open"):
        file.events  # noqa: B018
    details = DetailFile(write(tf.detail_bytes(DETAILS * 1000), "detail.atf"))
    os.truncate(details.path, 4096)
    with pytest.raises(FormatError, match="while it was open"):
        details.record(0)


def test_a_flipped_bit_shows_in_the_checksum(write):
    data = tf.index_bytes(EVENTS)
    assert IndexFile(write(patched(data, 64 + 5, b"\xff"))).verify() is False
    assert IndexFile(write(tf.index_bytes(EVENTS, crc=False))).verify() is None


def test_details_both_ways(write):
    events = IndexFile(write(tf.index_bytes(EVENTS))).events
    details = DetailFile(write(tf.detail_bytes(DETAILS), "detail.atf"))
    assert len(details) == 4 and details.report == ("finalized", 4, 0, 0, ()) and details.verify() is True
    for i in range(4):
        record = details.of_event(i, int(events[i]["detail_seq"]))
        assert (record.type, record.index_seq, record.thread_id, record.timestamp_ns, bytes(record.payload)) == (
            16,
            i,
            100,
            1000 + 10 * i,
            b"p" * 7 * i,
        )
        assert details.record(i) == record and record.payload.readonly
    assert len(details.broken_links(events)) == 0
    for i in (-1, 4, 2**40):
        with pytest.raises(UsageError):
            details.record(i)


def test_a_link_that_does_not_lead_back_is_not_followed(write):
    details = DetailFile(write(tf.detail_bytes([DETAILS[0], DETAILS[2], DETAILS[2]]), "detail.atf"))
    events = IndexFile(write(tf.index_bytes(EVENTS))).events
    assert details.of_event(1, 1) is None and details.of_event(3, 3) is None and details.of_event(0, tf.NONE) is None
    assert details.broken_links(events).tolist() == [1, 3]


def test_details_that_contain_bytes(write):
    payloads = [b"", b"req", b"a request", b"requ", b"est", b"request", b"REQUEST request_id"]
    types = [19, 19, 19, 19, 16, 16, 19]
    records = [tf.detail(i, type, payload) for i, (type, payload) in enumerate(zip(types, payloads, strict=True))]
    details = DetailFile(write(tf.detail_bytes(records), "detail.atf"))
    assert details.containing(19, b"request").tolist() == [2, 6]
    assert details.containing(16, b"request").tolist() == [5]
    assert details.containing(19, b"re").tolist() == [1, 2, 3, 6]
    assert details.containing(19, b"re", 2, 6).tolist() == [2, 3]
    assert details.containing(19, b"re", 5, 2).tolist() == details.containing(19, b"re", 9).tolist() == []
    with pytest.raises(UsageError):
        details.containing(19, b"")


@pytest.mark.parametrize("cut", range(260))
def test_details_cut_anywhere(write, cut):
    data = tf.detail_bytes(DETAILS)
    assert len(data) == 64 + sum(map(len, DETAILS)) + 64
    path = write(data[: len(data) - cut], "detail.atf")
    if len(data) - cut < 64:
        with pytest.raises(FormatError):
            DetailFile(path)
        return
    details = DetailFile(path)
    body = data[64 : max(64, len(data) - cut)]
    whole = [record for i, record in enumerate(DETAILS) if len(body) >= sum(map(len, DETAILS[: i + 1]))]
    assert [bytes(details.record(i).payload) for i in range(len(details))] == [record[24:] for record in whole]
    assert details.report.status == ("recovered" if cut else "finalized")


def test_growing_details(write):
    details = DetailFile(write(tf.detail_bytes(DETAILS, finalized=False) + DETAILS[0][:20], "detail.atf"))
    assert details.report.status == "growing" and len(details) == 4 and details.report.bytes_cut == 20


def test_a_damaged_length_ends_the_walk(write):
    data = patched(tf.detail_bytes(DETAILS), 64 + len(DETAILS[0]), struct.pack("<I", 5))
    details = DetailFile(write(data, "detail.atf"))
    assert len(details) == 1 and details.report.status == "recovered"
    assert details.verify() is False
