"""The line at the end of a run, and notices for GitHub's pages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from atf.pytest_plugin import layout
from atf.pytest_plugin.report import shown

if TYPE_CHECKING:
    from atf.pytest_plugin.session import Session


class Summary:
    """Registered in the process that talks to the user."""

    def __init__(self, session: Session):
        self.session = session

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        run = self.session.run
        assert run is not None
        entries = run.entries()
        dropped = layout.prune(run.base, self.session.settings.max_files)
        if not entries:
            return
        here = str(self.session.config.invocation_params.dir)
        size = sum(int(entry.get("bytes", 0)) for entry in entries)
        traces = "1 trace" if len(entries) == 1 else f"{len(entries)} traces"
        text = f"atf: {traces} kept ({readable(size)}) in {shown(run.directory, here)}"
        if dropped:
            text += f"; {dropped} older ones removed (--atf-max-files={self.session.settings.max_files})"
        terminalreporter.write_line(text)
        if os.environ.get("GITHUB_ACTIONS"):
            for entry in entries:
                said = f"{entry['nodeid']} {entry['outcome']}: {entry.get('error') or 'no error'}; trace {shown(entry['trace'], here)}"
                terminalreporter.write_line(f"::notice title=atf trace::{_escaped(said)}")


def readable(size_bytes: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
