"""Judges that are not ours, where they are installed (make conformance): the public runner of the protocol, and its Python client."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import doctraces
import query_server

TOOLS = pathlib.Path(os.environ.get("ATF_CONFORMANCE") or query_server.ROOT / "build/conformance")
NODE, RUNNER = TOOLS / "node_modules/node/bin/node", TOOLS / "node_modules/.bin/conformance"
FOREIGN = TOOLS / "venv/bin/python"
BASELINE = pathlib.Path(__file__).parents[1] / "data/mcp_conformance.yaml"


@pytest.fixture(scope="module")
def port(root):
    with query_server.serving(root) as server:
        yield server.port


@pytest.mark.skipif(not RUNNER.exists() or not NODE.exists(), reason="make conformance fetches the runner")
@pytest.mark.parametrize("revision", ["2026-07-28", "2025-11-25", "2025-06-18"])
def test_public_runner(port, tmp_path, revision):
    which = ["--requirements", revision] if revision == "2026-07-28" else ["--suite", "all", "--spec-version", revision]
    words = [NODE, RUNNER, "server", "--url", f"http://127.0.0.1:{port}/mcp", *which, "--expected-failures", BASELINE, "-o", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    said = done.stdout.partition("=== SUMMARY")[2] + done.stderr
    assert done.returncode == 0, said
    assert "✓ tools-list" in said
    assert "✓ dns-rebinding-protection" in said or revision == "2025-06-18"


CLIENT = '''
import asyncio, json, os, sys
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

url, python, root, trace, mode = sys.argv[1:]
words = ["-m", "atf.query", "mcp", "--trace-root", root]
server = StdioServerParameters(command=python, args=words, env={"PYTHONPATH": os.environ["PYTHONPATH"]})

async def talk(where):
    async with Client(where, mode=mode, raise_exceptions=True) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        top = await client.call_tool("functions_top", {"traceId": trace, "limit": 3})
        assert json.loads(top.content[0].text) == top.structured_content
        name = top.structured_content["functions"]["functionName"][0]
        spans = await client.call_tool("spans_list", {"traceId": trace, "filters": {"functionNames": [name]}, "limit": 1})
        tree = await client.call_tool("spans_tree", {"traceId": trace, "spanId": spans.structured_content["spans"]["spanId"][0]})
        wrong = await client.call_tool("spans_tree", {"traceId": trace, "spanId": "nobody"})
        assert wrong.is_error and json.loads(wrong.content[0].text)["error"]["code"] == -32602
        try:
            await client.call_tool("no_tool", {})
        except MCPError as error:
            refused = str(error)
        return client.session.protocol_version, names, tree.structured_content["nodes"][0]["functionName"] == name, refused

async def main():
    print(json.dumps([await talk(url), await talk(stdio_client(server))]))

asyncio.run(main())
'''


@pytest.mark.skipif(not FOREIGN.exists(), reason="make conformance installs the client")
@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_official_python_client(port, root, mode, version):
    """It validates every structured answer against the tool's output schema."""
    words = [FOREIGN, "-c", CLIENT, f"http://127.0.0.1:{port}/mcp", sys.executable, root, doctraces.MONDAY, mode]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, env=query_server.environment())
    assert done.returncode == 0, done.stderr
    web, pipes = json.loads(done.stdout)
    assert web == pipes and web[0] == version and len(web[1]) == 10 and web[2] is True and "no_tool" in web[3]
