"""Which functions of native programs carried no hook, and why: what their recorder noted in the manifests."""

from __future__ import annotations

import glob
import json
import os
from typing import Any

from atf.cli import text
from atf.cli.common import print_json


def not_hooked(path: str) -> list[dict[str, Any]]:
    """pid, module, function, reason of every function that was asked for and not hooked, in a session or a process's directory."""
    found = []
    for place in sorted({*glob.glob(os.path.join(glob.escape(path), "pid_*", "manifest.json")), os.path.join(path, "manifest.json")}):
        try:
            with open(place, encoding="utf-8") as file:
                values = json.load(file)
        except (OSError, ValueError):
            continue  # the trace's own reader tells of it
        native = values.get("native")
        if not isinstance(native, dict):
            continue
        modules = {module.get("module_id"): module.get("name") for module in values.get("modules", ())}
        for number, function, reason in native.get("not_hooked", ()):
            found.append({"pid": values.get("pid"), "module": modules.get(number), "function": function, "reason": reason})
    return found


def show(path: str, as_json: bool) -> int:
    found = not_hooked(path)
    if as_json:
        print_json(found)
        return 0
    text.print_table([">pid", "module", "function", "why it was not hooked"], [tuple(one.values()) for one in found], "functions without a hook")
    return 0
