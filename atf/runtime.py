"""The runtime directory: where recorded processes and recorders find each other, one small file per process.

``$XDG_RUNTIME_DIR/atf`` or ``<temp>/atf-<uid>``, 0700. Below it one directory a session with a ``config`` file
(what and how to record) and one ``<pid>.process`` file per recorded process (its segments). Files are lines of
``key=value``: read in a program's first milliseconds, they must not cost it an import.
"""

from __future__ import annotations

import os
import stat

from atf._core.errors import SessionError
from atf._core.segment import alive


def directory() -> str:
    """The runtime directory, made when missing. SessionError when somebody else could write there."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isdir(base) and os.access(base, os.W_OK):
        path = os.path.join(base, "atf")
    else:
        path = os.path.join(os.environ.get("TMPDIR") or "/tmp", f"atf-{os.getuid()}")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.lstat(path)
    except OSError as error:
        raise SessionError(f"the runtime directory {path} cannot be made: {error.strerror}; set XDG_RUNTIME_DIR to a directory of yours") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SessionError(f"the runtime directory {path} is not yours alone: remove it or set XDG_RUNTIME_DIR (it must be 0700)")
    return path


def write(path: str, values: dict) -> None:
    """Write ``key=value`` lines at once: whoever reads sees all or nothing."""
    temporary = f"{path}.{os.getpid()}.tmp"
    text = "".join(f"{key}={str(value).translate({10: '%0A', 37: '%25'})}\n" for key, value in values.items())
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    os.replace(temporary, path)


def read(path: str) -> dict[str, str]:
    """The ``key=value`` lines of a file; FileNotFoundError when it is not there."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        pairs = (line.rstrip("\n").partition("=") for line in file)
        return {key: value.replace("%0A", "\n").replace("%25", "%") for key, _, value in pairs}


def new_session(values: dict) -> str:
    """Make a session's directory with its config file; returns its path."""
    base = directory()
    number = 0
    while True:
        path = os.path.join(base, f"{os.getpid()}-{os.urandom(4).hex()}{f'-{number}' if number else ''}")
        try:
            os.mkdir(path, 0o700)
            break
        except FileExistsError:
            number += 1
    write(os.path.join(path, "config"), values)
    return path


def processes(session: str) -> list[dict[str, str]]:
    """What the processes of a session say of themselves; ``file`` is where it stands."""
    found = []
    try:
        names = sorted(os.listdir(session))
    except FileNotFoundError:
        return []
    for name in names:
        if name.endswith(".process"):
            path = os.path.join(session, name)
            try:
                found.append({**read(path), "file": path})
            except (OSError, UnicodeError):
                continue
    return found


def sessions() -> list[dict]:
    """All sessions of this user: ``path``, ``config``, ``processes``, ``recorder_alive``."""
    base = directory()
    found = []
    for name in sorted(os.listdir(base)):
        path = os.path.join(base, name)
        try:
            config = read(os.path.join(path, "config"))
        except (OSError, UnicodeError):
            continue
        found.append({"path": path, "config": config, "processes": processes(path), "recorder_alive": recorder_alive(config)})
    return found


def recorder_alive(config: dict[str, str]) -> bool:
    """Whether the process that drains this session still runs."""
    pid = int(config.get("recorder_pid", "0") or 0)
    return pid > 0 and alive(pid, int(config.get("recorder_start", "0") or 0))


def rings_only(session: dict) -> bool:
    """Whether its processes keep what they record in memory (atf.slices): it has no recorder and no output."""
    return bool(session["config"].get("rings") == "1")


def remove(session: str) -> None:
    """Remove a session's directory and the files in it."""
    try:
        for name in os.listdir(session):
            os.unlink(os.path.join(session, name))
        os.rmdir(session)
    except OSError:
        pass
