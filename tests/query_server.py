"""A real query server in a process of its own, as a user starts it, and plain ways to talk to it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOME = None if os.environ.get("ATF_INSTALLED") else ROOT
JSON = {"Content-Type": "application/json"}


def environment():
    """For a child: this interpreter's world without what steers Python or atf, and atf where it lies."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ATF_"))}
    return {**kept, **({"PYTHONPATH": str(HOME)} if HOME else {}), "PYTHONDONTWRITEBYTECODE": "1"}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Server:
    """url: of /rpc, None on a Unix socket. process: the server's."""

    def __init__(self, root, *options, misbehaving=False):
        program = [str(Path(__file__).with_name("query_misbehaving.py"))] if misbehaving else ["-m", "atf.query"]
        where = [] if "--uds" in options else ["--port", "0"]
        command = [sys.executable, *program, "--trace-root", str(root), *where, *map(str, options)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=root, env=environment())
        first = self.process.stdout.readline().decode().strip()
        assert first, self.process.communicate()[1].decode()
        self.url = first if first.startswith("http") else None
        self.address = first

    @property
    def port(self):
        return int(self.url.split(":")[2].split("/")[0])

    def connect(self):
        """A plain socket to it."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def post(self, client, method, params=None, id=1, **more):
        """The decoded answer of a call with an httpx client."""
        answer = client.post(self.url, json={"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def resident_bytes(self):
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def stop(self, number=signal.SIGTERM, within_s=20):
        """(exit status, rest of standard output, standard error)."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=within_s)
        return self.process.returncode, out.decode(), err.decode()


@contextmanager
def serving(root, *options, **more):
    """A server that must end well."""
    server = Server(root, *options, **more)
    try:
        yield server
    except BaseException:
        server.process.kill()
        print(server.process.communicate()[1].decode()[-3000:])
        raise
    status, _, err = server.stop()
    assert (status, "Traceback" in err) == (0, False), err[-3000:]


def request_bytes(body, *headers, path="/rpc", method="POST", host="127.0.0.1", length=None):
    """The bytes of a request, to be sent in pieces."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_answer(sock):
    """(status, headers, body) of one answer; None when the connection was closed before one."""
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            chunk = sock.recv(65536)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        body += sock.recv(65536)
    return int(first.split()[1]), headers, body


def call(method, params=None, id=1):
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params or {}}).encode()


def post(port, body, path="/mcp", **headers):
    """(status, headers, body) of one POST."""
    one = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        one.request("POST", path, body, {"Content-Type": "application/json", **headers})
        found = one.getresponse()
        return found.status, dict(found.getheaders()), found.read()
    finally:
        one.close()
