"""A recorded process's directory and its manifest.json: names, threads, losses, how it ended."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from atf import metrics
from atf._core.errors import OutputError

FORMAT_VERSION = "2.1"
NATIVE_MODULES = 1 << 20  # module ids from here on are native ones


def new_session_directory(out: str) -> str:
    """Make ``<out>/session_YYYYMMDD_HHMMSS`` (UTC), with a suffix when the name is taken. OutputError when it cannot be written."""
    stem = os.path.join(out, time.strftime("session_%Y%m%d_%H%M%S", time.gmtime()))
    return _make_unique(stem)


def new_process_directory(session: str, pid: int) -> str:
    """Make ``<session>/pid_<pid>``; with a suffix for a process that was replaced by exec."""
    return _make_unique(os.path.join(session, f"pid_{pid}"))


def _make_unique(stem: str) -> str:
    number, path = 1, stem
    while True:
        try:
            os.makedirs(path, mode=0o700)
            return path
        except FileExistsError:
            number += 1
            path = f"{stem}_{number}"
        except OSError as error:
            raise OutputError(f"{path} cannot be made: {error.strerror}; choose another place with --out") from error


def _native_in(directory: str) -> dict[str, Any]:
    """The manifest in a natively recorded process's directory; {} for all others."""
    try:
        with open(os.path.join(directory, "manifest.json"), encoding="utf-8", errors="surrogateescape") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("native"), dict) else {}


def filters_of(config: dict[str, str]) -> dict[str, Any]:
    """What a recording's config leaves out of Python's calls, for its manifests: globs on names of modules."""
    globs = {key: [one for one in config.get(key, "").split("\x1f") if one] for key in ("include", "exclude")}
    return {**globs, "python": config.get("python", "1") == "1"}


class Manifest:
    """What is known of one process, and its file. Symbols are added as their names arrive."""

    def __init__(self, path: str, process: dict[str, Any]):
        self.path = path
        self.values: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "status": "recording",
            "clock_type": 3,
            "os": sys.platform,
            "arch": os.uname().machine,
            "host": os.uname().nodename,
            "pid": process.get("pid"),
            "parent_pid": process.get("parent_pid"),
            "argv": process.get("argv", []),
            "python": process.get("python"),
            "level": process.get("level"),
            "filters": process.get("filters"),
            "exit": None,
            "time_start_ns": 0,
            "time_end_ns": 0,
            "clock": {"anchors": []},
            "windows": [],
            "lost": {},
            "threads": [],
            "modules": [],
            "symbols": [],
        }
        self._seen: set[tuple[int, int]] = set()

    def keep_native(self, directory: str) -> None:
        """Native names stand in no names log: a recovery takes them from the manifest that the killed recorder left there."""
        before = _native_in(directory)
        if "native" in before:
            self.values["native"] = before["native"]
            for key in ("modules", "symbols"):  # Python's own are in the log, if it is a process of both kinds
                self.values[key] = [one for one in before.get(key, []) if one.get("module_id", 0) >= NATIVE_MODULES]

    def names_of_plan(self, session: str, plan: str) -> None:
        """A forked child without names has those of another process of the session that was traced by the same plan."""
        if self.values["symbols"]:
            return
        self.values.setdefault("native", {})["plan"] = plan
        for name in sorted(os.listdir(session)):
            other = _native_in(os.path.join(session, name)) if name.startswith("pid_") else {}
            if other.get("symbols") and other["native"].get("plan") == plan:
                self.values.update(modules=other["modules"], symbols=other["symbols"])
                return

    def add_names(self, names: list[tuple[int, int, int, str, str]]) -> None:
        """Entries of the names log: ``(kind, id, line, name, file)``."""
        for kind, identifier, line, name, file in names:
            if (kind, identifier) in self._seen:
                continue
            self._seen.add((kind, identifier))
            if kind == 1:
                self.values["modules"].append({"module_id": identifier, "name": name, "path": file, "base_address": "0x0", "size": 0, "uuid": ""})
            else:
                symbol: dict[str, Any] = {
                    "function_id": f"0x{identifier:016x}",
                    "module_id": identifier >> 32,
                    "symbol_index": identifier & 0xFFFFFFFF,
                    "name": name,
                }
                if file:
                    symbol["file"] = file
                if line:
                    symbol["line"] = line
                self.values["symbols"].append(symbol)

    def set_threads(self, threads: list[dict[str, Any]]) -> None:
        """Threads as the drain counts them."""
        values = self.values
        values["threads"] = [
            {
                "id": t["number"],
                "has_detail": t["details"] > 0,
                "tid": t["tid"],
                "name": t["name"] or ("MainThread" if t["tid"] == values["pid"] else ""),
                "events": t["events"],
                "details": t["details"],
                "lost": sum(t["lost"].values()),
                "lost_by": t["lost"],
                "details_lost": t["details_lost"] + t["details_refused"],
                "entered": t["entered"],
                "metrics": {name: value for name, value in metrics.of_thread(t).items() if value},  # a program may have had many threads
            }
            for t in threads
        ]
        lost: dict[str, int] = {}
        for t in threads:
            for reason, count in t["lost"].items():
                lost[reason] = lost.get(reason, 0) + count
        values["lost"] = lost
        written = [t for t in threads if t["events"]]
        values["time_start_ns"] = min((t["time_start_ns"] for t in written), default=0)
        values["time_end_ns"] = max((t["time_end_ns"] for t in written), default=0)

    def write(self, durable: bool = True) -> None:
        """Replace manifest.json at once; durable: waits until it is on the disk. OutputError when the disk refuses; the one before stays then."""
        target = os.path.join(self.path, "manifest.json")
        temporary = f"{target}.{os.getpid()}.tmp"
        try:
            with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(json.dumps(self.values, ensure_ascii=True, separators=(",", ":")))  # dump() would leave the fast encoder out
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            try:
                os.unlink(temporary)
            except OSError:
                pass
            raise OutputError(f"{target} cannot be written: {error.strerror}; the events are in the files beside it") from error
