"""Speaking to a recorder that runs: requests and replies are small files in its runtime directory, which is its user's alone.

``<id>.request`` holds ``command`` and its arguments, ``<id>.reply`` what came of it. The recorder looks for them in its poll.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from atf import runtime
from atf._core.errors import AtfError, SessionError, UsageError

Handler = Callable[[dict[str, Any]], dict[str, Any]]
ANSWER_S = 10.0


# ---------------------------------------------------------------- the recorder's side
def answer(session: str, handlers: Mapping[str, Handler]) -> None:
    """Answer every request that lies in a runtime directory. A request that cannot be understood gets a reply that says so."""
    for name in os.listdir(session):
        if not name.endswith(".request"):
            continue
        path = os.path.join(session, name)
        try:
            said = runtime.read(path)
            os.unlink(path)
            command, arguments = said["command"], json.loads(said.get("arguments", "{}"))
        except (OSError, KeyError, ValueError):
            continue
        try:
            handler = handlers.get(command)
            if handler is None:
                raise UsageError(f"this recorder does not know {command!r}: it understands {', '.join(sorted(handlers))}")
            reply = {"result": json.dumps(handler(arguments))}
        except AtfError as error:
            reply = {"error": str(error), "kind": type(error).__name__}
        runtime.write(os.path.join(session, name.removesuffix(".request") + ".reply"), reply)


# ---------------------------------------------------------------- the other side
def find(said: str | None) -> dict[str, Any]:
    """The running session that is meant: by its output directory, the recorder's pid, a recorded process's pid, or, with None, the only
    one. SessionError tells which there are."""
    running = [one for one in runtime.sessions() if one["recorder_alive"] and not runtime.rings_only(one)]
    if said is None:
        found = running
    elif said.isdecimal():
        found = [one for one in running if said == one["config"].get("recorder_pid") or any(p.get("pid") == said for p in one["processes"])]
    else:
        path = os.path.realpath(said)
        outputs = [one["config"].get("output", "") for one in running]
        found = [one for one, out in zip(running, outputs, strict=True) if os.path.realpath(out) == path or os.path.basename(out) == said]
    if len(found) == 1:
        return found[0]
    there = "".join(f"\n  {one['config'].get('output')} (recorder {one['config'].get('recorder_pid')})" for one in running) or " none"
    if not found:
        raise SessionError(f"no recording {said + ' ' if said else ''}is running here; those that are:{there}")
    raise SessionError(f"several recordings run here; name one by its directory or its recorder's pid:{there}")


def ask(session: Mapping[str, Any], command: str, arguments: Mapping[str, Any] | None = None, wait_s: float = ANSWER_S) -> dict[str, Any]:
    """What the recorder of a session answers. SessionError when it ends or does not answer; its own errors as UsageError or SessionError."""
    if os.path.exists(os.path.join(str(session["path"]), "stopped")):
        raise SessionError("the recording ended; its program goes on")
    if "root" in session["config"]:
        raise SessionError("this recording runs inside its program, which answers nobody: ask there, atf.Record.metrics() tells")
    place = os.path.join(str(session["path"]), f"{os.getpid()}-{os.urandom(4).hex()}")
    try:
        runtime.write(place + ".request", {"command": command, "arguments": json.dumps(dict(arguments or {}))})
        until = time.monotonic() + wait_s
        while not os.path.exists(place + ".reply"):
            if not runtime.recorder_alive(session["config"]):
                raise SessionError("the recorder ended before it answered")
            if time.monotonic() > until:
                raise SessionError(f"the recorder did not answer within {wait_s:.0f} s: is it stopped?")
            time.sleep(0.002)
        reply = runtime.read(place + ".reply")
    except FileNotFoundError as error:
        raise SessionError("the recording ended") from error
    finally:
        for end in (".request", ".reply"):
            try:
                os.unlink(place + end)
            except OSError:
                pass
    if "error" in reply:
        raise (UsageError if reply.get("kind") == "UsageError" else SessionError)(reply["error"])
    return dict(json.loads(reply["result"]))
