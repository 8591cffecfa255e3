"""Writes ATF v2 files byte by byte, slowly and plainly: what the tests read was not written by the code under test."""

import json
import struct
import zlib
from pathlib import Path

NONE = 0xFFFFFFFF
CALL, RETURN, EXCEPTION, INSTANT, YIELD, RESUME, SIGNAL, GAP = range(1, 9)


def event(timestamp_ns, function_id, kind, depth=1, detail_seq=NONE, tid=100):
    return struct.pack("<QQIIII", timestamp_ns, function_id, tid, kind, depth, detail_seq)


def detail(index_seq, event_type, payload, timestamp_ns=0, tid=100):
    return struct.pack("<IHHIIQ", 24 + len(payload), event_type, 0, index_seq, tid, timestamp_ns) + payload


def times(events):
    stamps = [struct.unpack_from("<Q", e)[0] for e in events]
    return (min(stamps), max(stamps)) if stamps else (0, 0)


def index_bytes(events, tid=100, finalized=True, flags=0, crc=True):
    """The bytes of an index.atf; unfinalized: as a writer leaves it that was killed, or has not ended yet."""
    first, last = times(events)
    body = b"".join(events)
    count, footer_at = (len(events), 64 + len(body)) if finalized else (0, 64)
    header = struct.pack("<4sBBBBIIB3xIIIQQQQ", b"ATI2", 1, 1, 1, 4, flags, tid, 3, 0, 32, count, 64, footer_at, first, last)
    footer = struct.pack("<4sIQQQQ24x", b"2ITA", zlib.crc32(body) if crc else 0, len(events), first, last, len(body))
    return header + body + (footer if finalized else b"")


def detail_bytes(records, tid=100, finalized=True):
    body = b"".join(records)
    seqs = [struct.unpack_from("<I", r, 8)[0] for r in records]
    stamps = [struct.unpack_from("<Q", r, 16)[0] for r in records]
    first_seq, last_seq = (min(seqs), max(seqs)) if seqs else (0, 0)
    first, last = (min(stamps), max(stamps)) if stamps else (0, 0)
    declared = (len(records), len(body), first_seq, last_seq) if finalized else (0, 0, 0, 0)
    header = struct.pack("<4sBBBBIIIQQQQQ4x", b"ATD2", 1, 1, 1, 4, 0, tid, 0, 64, *declared)
    footer = struct.pack("<4sIQQQQ24x", b"2DTA", zlib.crc32(body), len(records), len(body), first, last)
    return header + body + (footer if finalized else b"")


def write_thread(process_dir, number, events, details=(), tid=100, finalized=True):
    """One thread_<n> directory; returns it."""
    place = Path(process_dir) / f"thread_{number}"
    place.mkdir(parents=True, exist_ok=True)
    (place / "index.atf").write_bytes(index_bytes(events, tid, finalized, flags=1 if details else 0))
    if details:
        (place / "detail.atf").write_bytes(detail_bytes(details, tid, finalized))
    return place


def manifest(threads, symbols, modules, **more):
    """threads: {number: {...}}, symbols: {function_id: (name, file, line)}, modules: {module_id: name}."""
    return {
        "format_version": "2.1",
        "clock_type": 3,
        "threads": [{"id": n, "has_detail": False, **keys} for n, keys in threads.items()],
        "modules": [
            {"module_id": i, "name": name, "path": f"/src/{name}.py", "base_address": "0x0", "size": 0, "uuid": ""}
            for i, name in modules.items()
        ],
        "symbols": [
            {"function_id": f"0x{i:016x}", "module_id": i >> 32, "symbol_index": i & NONE, "name": name, "file": file, "line": line}
            for i, (name, file, line) in symbols.items()
        ],
        "status": "complete",
        **more,
    }


def write_process(session_dir, pid, threads, content=None, finalized=True):
    """threads: {number: (tid, events, details)}; content: the manifest (None: no manifest). Returns the pid directory."""
    place = Path(session_dir) / f"pid_{pid}"
    place.mkdir(parents=True, exist_ok=True)
    for number, (tid, events, details) in threads.items():
        write_thread(place, number, events, details, tid, finalized)
    if content is not None:
        (place / "manifest.json").write_text(json.dumps(content))
    return place
