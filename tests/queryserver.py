"""A real query server in a process of its own, over the traces of tests/doctraces.py."""

import contextlib
import http.client
import os
import pathlib
import socket
import subprocess
import sys
import time

import atf

ROOT = pathlib.Path(atf.__file__).resolve().parent.parent


def environment():
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ATF_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(port):
    try:
        one = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        one.request("GET", "/healthz")
        return one.getresponse().status == 200
    except OSError:
        return False
    finally:
        one.close()


@contextlib.contextmanager
def serving(root, *options, ready=answers, port=None):
    """The port of a server of the traces below `root`; it is stopped with SIGTERM and must exit 0."""
    port = free_port() if port is None else port
    words = [sys.executable, "-m", "atf.query", "--trace-root", str(root), *(["--port", str(port)] if port else []), *options]
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=root)
    try:
        until = time.monotonic() + 30
        while not ready(port):
            assert process.poll() is None and time.monotonic() < until, process.stdout.read()
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0, said


def post(port, body, path="/mcp", **headers):
    """(status, headers, body) of one POST."""
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        one.request("POST", path, body, {"Content-Type": "application/json", **headers})
        found = one.getresponse()
        return found.status, dict(found.getheaders()), found.read()
    finally:
        one.close()
