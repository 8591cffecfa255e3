"""Clients that are not ours, against a real server: pjrpc and curl."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pjrpc
import pytest
from pjrpc.client.backend.httpx import Client

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
from query_server import serving


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    place = tmp_path_factory.mktemp("traces")
    doctraces.write(place)
    with serving(place) as server:
        yield server


@pytest.fixture
def client(server):
    with httpx.Client() as http:
        yield Client(server.url, http_client=http)


def test_calls_by_name_and_by_position(client):
    assert client.proxy.__getattr__("trace.info")(traceId=doctraces.MONDAY)["eventCount"] == 150
    assert client.call("trace.info", doctraces.MONDAY, True)["checksums"]["eventsMd5"]


def test_errors(client):
    for method, params, code in [("nowhere", {}, -32601), ("trace.info", {}, -32602), ("trace.info", {"traceId": "x"}, -32000)]:
        with pytest.raises(pjrpc.client.exceptions.JsonRpcError) as caught:
            client.call(method, **params)
        assert caught.value.code == code
        assert isinstance(caught.value.data, dict)


def test_notifications(client):
    assert client.notify("trace.info", traceId=doctraces.MONDAY) is None


def test_batches(client):
    with client.batch() as batch:
        batch.send(pjrpc.Request("trace.info", params={"traceId": doctraces.MONDAY}, id="a"))
        batch.send(pjrpc.Request("nowhere", id=2))
        batch.send(pjrpc.Request("trace.info", params=[doctraces.TUESDAY]))
        batch.send(pjrpc.Request("trace.info", params={"traceId": doctraces.TUESDAY}, id=None))
    answers = {one.id: one for one in batch.get_response() or ()}
    assert answers["a"].unwrap_result()["eventCount"] == 150
    assert answers[2].unwrap_error().code == -32601


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
def test_curl(server):
    def curl(*options):
        done = subprocess.run(["curl", "-sS", "-w", "\n%{http_code} %{content_type}", *options], capture_output=True, text=True, timeout=30)
        body, _, end = done.stdout.rpartition("\n")
        return body, end, done.stderr

    call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "trace.info", "params": {"traceId": doctraces.MONDAY}})
    kind = ["-H", "Content-Type: application/json"]
    body, end, _ = curl(server.url, *kind, "-d", call)
    assert (json.loads(body)["result"]["eventCount"], end) == (150, "200 application/json")
    assert curl(server.url, "-d", call)[1].startswith("415")  # what curl says without the header
    assert curl(server.url)[1].startswith("405")
    large = subprocess.run(["curl", "-sS", "-o", "-", "-w", "%{http_code}", server.url, *kind, "--data-binary", "@-"], input=b" " * (3 << 20), capture_output=True)
    assert large.stdout.endswith(b"413")
    chunked = ["-H", "Transfer-Encoding: chunked", "--data-binary", "@-"]
    large = subprocess.run(["curl", "-sS", "-o", "-", "-w", "%{http_code}", server.url, *kind, *chunked], input=b" " * (3 << 20), capture_output=True)
    assert large.stdout.endswith(b"413")
