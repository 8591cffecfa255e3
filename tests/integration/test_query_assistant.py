"""An assistant's view: the same conversation with the real process over pipes and with the real server over HTTP."""

import http.client
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import doctraces
import query_server

MODERN = "2026-07-28"
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


@pytest.fixture(scope="module")
def port(root):
    with query_server.serving(root) as server:
        yield server.port


class Pipes:
    """`python -m atf.query mcp` as an assistant starts it."""

    def __init__(self, root, *options):
        words = [sys.executable, "-m", "atf.query", "mcp", "--trace-root", str(root), *options]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, env=query_server.environment(), stdin=pipe, stdout=pipe, stderr=pipe, cwd=root)

    def __call__(self, message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline()) if "id" in message else None

    def end(self):
        return (*self.process.communicate(timeout=30), self.process.returncode)


class Http:
    def __init__(self, port):
        self.port, self.version = port, None

    def __call__(self, message):
        headers = {"Accept": "application/json, text/event-stream", **({"MCP-Protocol-Version": self.version} if self.version else {})}
        if self.version == MODERN:
            headers["Mcp-Method"] = message["method"]
            if "name" in message.get("params", {}):
                headers["Mcp-Name"] = message["params"]["name"]
        status, found, body = query_server.post(self.port, json.dumps(message), **headers)
        if "id" not in message:
            assert (status, body) == (202, b"")
            return None
        assert status == 200 and found["content-type"] == "application/json"
        return json.loads(body)


def conversation(say, modern):
    """[(method or tool, result)] of a short investigation: what stands out, the slowest call, what it did."""
    ids = iter(range(1, 100))
    heard = []

    def ask(method, **params):
        params = {**params, "_meta": META} if modern else params
        id = next(ids)
        reply = say({"jsonrpc": "2.0", "id": id, "method": method, **({"params": params} if params else {})})
        assert reply["id"] == id and reply["jsonrpc"] == "2.0", reply
        heard.append((params.get("name", method), reply["result"]))
        return reply["result"]

    def tool(name, **arguments):
        result = ask("tools/call", name=name, arguments={"traceId": doctraces.MONDAY, **arguments})
        assert not result["isError"], result
        return result["structuredContent"]

    if modern:
        ask("server/discover")
    else:
        ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={"name": "t", "version": "0"})
        say({"jsonrpc": "2.0", "method": "notifications/initialized"})
        ask("ping")
    assert len(ask("tools/list")["tools"]) == 10
    assert set(ask("tools/call", name="traces_list")["structuredContent"]["traces"]["traceId"]) == {doctraces.MONDAY, doctraces.TUESDAY}
    tool("trace_info")
    told = tool("trace_summary", maxTokens=1000)
    raised = tool("events_get", filters={"eventTypes": ["exception"]}, limit=1)["events"]
    detail = tool("events_detail", eventId=raised["eventId"][0])
    assert detail["detail"]["message"] in told["text"]
    tool("events_chain", requestId="r-1")
    assert tool("trace_compare", other=doctraces.TUESDAY)["changes"]
    top = tool("functions_top", limit=3)
    name = top["functions"]["functionName"][0]
    slowest = tool("spans_list", filters={"functionNames": [name]}, orderBy="duration", ascending=False, limit=1)
    tree = tool("spans_tree", spanId=slowest["spans"]["spanId"][0])
    assert tree["nodes"][0]["functionName"] == name
    assert ask("tools/call", name="spans_list", arguments={"traceId": "nope"})["isError"]
    return heard


def steady(heard):
    """Without what differs from run to run."""
    text = re.sub(r'"executionTimeMs": [\d.e-]+', '"executionTimeMs": 0', json.dumps(heard))
    for name, result in json.loads(text):
        for part in result.get("content", ()):
            part["text"] = None
        content = result.get("structuredContent") or {}
        content["spanCount"] = None  # trace_info knows it once somebody asked for spans
        yield name, result


@pytest.mark.parametrize("modern", [False, True])
def test_pipes_and_http_say_the_same(root, port, modern):
    pipes, web = Pipes(root), Http(port)
    try:
        over_pipes = list(steady(conversation(pipes, modern)))
    finally:
        out, err, status = pipes.end()
    assert (out, err, status) == (b"", b"", 0)
    web.version = MODERN if modern else None
    assert list(steady(conversation(web, modern))) == over_pipes


def test_http_has_one_method_and_one_content_type(port):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert query_server.post(port, body)[0] == 200
    assert query_server.post(port, body, **{"Content-Type": "text/plain"})[0] == 415
    for method in ("GET", "DELETE", "PUT"):
        one = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        one.request(method, "/mcp", headers={"Accept": "text/event-stream"})
        found = one.getresponse()
        assert (found.status, found.headers["allow"]) == (405, "POST")
        one.close()


def test_what_a_process_prints_does_not_reach_the_assistant(root, tmp_path):
    """A library that prints to standard output would end the conversation."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, os, msgspec\nold = msgspec.json.encode\n"
        "def loud(*a, **k):\n    print('hello'); os.write(1, b'there\\n'); return old(*a, **k)\n"
        "msgspec.json.encode = loud\n"
    )
    environment = query_server.environment()
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    words = [sys.executable, "-m", "atf.query", "mcp", "--trace-root", str(root)]
    done = subprocess.run(words, env=environment, input=b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n', capture_output=True, timeout=30)
    assert json.loads(done.stdout) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert b"there" in done.stderr and done.returncode == 0


def test_an_assistant_needs_no_web_server(root):
    """What pipes need not, they do not load."""
    code = "import sys; from atf.query.__main__ import main; main(['mcp', '--trace-root', '.']); print('starlette' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], env=query_server.environment(), input=b"", capture_output=True, timeout=30)
    assert done.stderr.strip() == b"False", done.stderr


CALL = {"name": "trace_info", "arguments": {"traceId": doctraces.MONDAY}}
BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": CALL})


def test_the_guard_of_rpc_stands_before_it(root, tmp_path):
    """Host, Origin, token, size and rate: none of it is left to the assistant's good will."""
    token = tmp_path / "token"
    with query_server.serving(root, "--token-file", token, "--rate", "3", "--access-log", tmp_path / "log") as server:
        port = server.port
        allowed = {"Authorization": f"Bearer {token.read_text().strip()}"}
        assert query_server.post(port, BODY)[0] == 401
        assert query_server.post(port, BODY, **allowed, Host="evil.example")[0] == 403
        assert query_server.post(port, BODY, **allowed, Origin="http://evil.example")[0] == 403
        assert query_server.post(port, BODY + " " * (1 << 20), **allowed)[0] == 413
        results = [json.loads(query_server.post(port, BODY, **allowed)[2])["result"] for _ in range(12)]
        refused = [json.loads(one["content"][0]["text"])["error"] for one in results if one["isError"]]
        assert 0 < len(refused) < 12 and {one["code"] for one in refused} == {-32001} and refused[0]["data"]["retryAfterMs"]
        one = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        one.request("GET", "/metrics", headers=allowed)
        counted = one.getresponse().read().decode()
        one.close()
        assert f'atf_query_requests_total{{method="trace.info",code="-32001"}} {len(refused)}' in counted
    log = (tmp_path / "log").read_text().splitlines()
    assert len([line for line in log if " trace.info " in line]) == 12 and [line for line in log if "status=403" in line]
