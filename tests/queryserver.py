"""A real query server in a process of its own, as a user starts it."""

import contextlib
import http.client
import os
import pathlib
import socket
import subprocess
import sys

import atf

ROOT = pathlib.Path(atf.__file__).resolve().parent.parent


def environment():
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ATF_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def serving(root, *options):
    """The address that a server of the traces below `root` prints; it is stopped with SIGTERM and must exit 0."""
    where = [] if "--uds" in options else ["--port", "0"]
    words = [sys.executable, "-m", "atf.query", "--trace-root", str(root), *where, *map(str, options)]
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
    try:
        address = process.stdout.readline().strip()
        assert address, process.communicate(timeout=30)[1]
        yield address
    finally:
        process.terminate()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in said, said


def port_of(address):
    return int(address.split(":")[2].split("/")[0])


def post(port, body, path="/mcp", **headers):
    """(status, headers, body) of one POST."""
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        one.request("POST", path, body, {"Content-Type": "application/json", **headers})
        found = one.getresponse()
        return found.status, dict(found.getheaders()), found.read()
    finally:
        one.close()
