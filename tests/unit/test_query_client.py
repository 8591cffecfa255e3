"""The client without a server: typed answers, pages, errors; and its generated methods."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

import atf
import atf.query
from atf.errors import UsageError
from atf.query.client import Client
from atf.query.client_methods import RESULTS, ClientMethods
from atf.query.methods import all_methods
from atf.query.methods.spans_list import SpansList
from atf.query.methods.trace_info import Info
from atf.query.spanrows import SpanFilters, SpanRow

sys.path.insert(0, str(Path(__file__).parents[1]))
import doctraces
import query_server

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(root):
    with atf.query.connect(root) as made:
        yield made


def test_answers_are_structs(client):
    info = client.trace_info(trace_id=doctraces.MONDAY)
    assert isinstance(info, Info) and (info.trace_id, info.event_count) == (doctraces.MONDAY, 150)
    found = client.spans_list(trace_id=doctraces.MONDAY, filters={"functionNames": ["handle"]}, projection={"status": True})
    assert isinstance(found, SpansList) and all(isinstance(row, SpanRow) and row.status for row in found.spans)
    assert {row.function_name for row in found.spans} == {"handle"} and found.metadata.total_count == len(found.spans)


def test_filters_in_either_spelling_or_as_a_struct(client):
    asked = [{"functionNames": ["handle"]}, {"function_names": ["handle"]}, SpanFilters(function_names=["handle"])]
    first, *others = [client.spans_list(trace_id=doctraces.MONDAY, filters=one).spans for one in asked]
    assert first and all(other == first for other in others)


def test_columns_are_asked_for(client):
    found = client.spans_list(trace_id=doctraces.MONDAY, shape="columns", limit=3)
    assert [len(values) for values in found.spans.values()] == [3] * len(found.spans)


def test_a_trace_is_connected_to_by_its_path(root):
    with atf.query.connect(root / doctraces.MONDAY) as client:
        assert client.trace_id == doctraces.MONDAY and client.trace_info().event_count == 150
        assert client.trace_info(trace_id=doctraces.TUESDAY).trace_id == doctraces.TUESDAY
    with atf.query.connect(root, trace_id=doctraces.TUESDAY) as client:
        assert client.trace_info().trace_id == doctraces.TUESDAY


@pytest.mark.parametrize("limit", [1, 7, 68, 1000])
def test_pages_and_rows_are_the_whole(client, limit):
    whole = client.spans_list(trace_id=doctraces.MONDAY).spans
    pages = list(client.pages(client.spans_list, trace_id=doctraces.MONDAY, limit=limit))
    assert [row for page in pages for row in page.spans] == whole and len(pages) == -(-len(whole) // limit)
    assert list(client.iter_spans_list(trace_id=doctraces.MONDAY, limit=limit)) == whole


def test_pages_begin_at_an_offset_and_end_with_what_has_no_pages(client):
    whole = client.spans_list(trace_id=doctraces.MONDAY).spans
    found = [row for page in client.pages(client.spans_list, trace_id=doctraces.MONDAY, offset=60, limit=3) for row in page.spans]
    assert found == whole[60:]
    assert len(list(client.pages(client.trace_info, trace_id=doctraces.MONDAY))) == 1


@pytest.mark.parametrize(
    ("ask", "code", "data"),
    [
        (lambda c: c.trace_info(trace_id="nope"), -32000, {"traceId": "nope"}),
        (lambda c: c.spans_list(trace_id=doctraces.MONDAY, filters={"functionName": ["x"]}), -32602, {"didYouMean": ["functionNames"]}),
        (lambda c: c.spans_list(trace_id=doctraces.MONDAY, limit=0), -32602, {"param": "limit"}),
        (lambda c: c.call("spans.lst"), -32601, {"method": "spans.lst"}),
        (lambda c: c.call("trace.info", [doctraces.MONDAY, 3]), -32602, {"param": "includeChecksums"}),
    ],
)
def test_errors_are_raised_with_code_and_data(client, ask, code, data):
    with pytest.raises(atf.query.RpcError) as error:
        ask(client)
    assert error.value.code == code and {name: error.value.data[name] for name in data} == data
    assert isinstance(error.value, atf.AtfError)


def test_call_gives_what_json_gives(client):
    by_name, by_place = client.call("trace.info", {"traceId": doctraces.MONDAY}), client.call("trace.info", [doctraces.MONDAY])
    assert by_name == by_place and by_name["eventCount"] == 150


def test_a_batch_is_one_request_and_its_errors_are_values(client):
    sent = []
    send = client._transport.send
    client._transport.send = lambda body: sent.append(body) or send(body)
    a, b, c = client.batch([("trace.info", {"traceId": doctraces.MONDAY}), ("no", {}), ("trace.info", {"traceId": doctraces.TUESDAY})])
    assert (a["traceId"], b.code, c["traceId"]) == (doctraces.MONDAY, -32601, doctraces.TUESDAY) and len(sent) == 1
    assert client.batch([]) == []
    with pytest.raises(UsageError, match="100"):
        client.batch([("no", {})] * 101)


class Says:
    """A server that answers something else."""

    def __init__(self, body):
        self.body = body

    def send(self, body):
        return self.body

    def close(self):
        pass


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"id":1}', b'{"id":9,"result":{}}', b'{"id":1,"result":{"traceId":3}}', b'{"id":1,"error":{"code":"x"}}', b"\xff"],
)
def test_answers_that_are_none(body):
    with pytest.raises(atf.query.TransportError):
        Client(Says(body)).trace_info(trace_id="x")


def test_an_answer_to_another_request_is_none():
    with pytest.raises(atf.query.TransportError, match="to request 9"):
        Client(Says(b'{"id":9,"result":{}}')).call("a")


def test_error_codes_of_another_version_and_batches_that_lack_members():
    with pytest.raises(atf.query.RpcError) as error:
        Client(Says(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32077,"message":"New"}}')).trace_info(trace_id="x")
    assert error.value.code == -32077
    with pytest.raises(atf.query.TransportError, match="lacks"):
        Client(Says(b'[{"id":1,"result":3}]')).batch([("a", {}), ("b", {})])


def test_what_cannot_be_connected_to(tmp_path):
    for target in (tmp_path / "nothing", "http://", "http://a:b", "http://u:p@h/", "http://h/?x=1", str(tmp_path / "x")):
        with pytest.raises(UsageError):
            atf.query.connect(target)
    with pytest.raises(UsageError, match="not both"):
        atf.query.connect("http://h", token="a", token_file="b")
    with pytest.raises(UsageError, match="token file"):
        atf.query.connect("http://h", token_file=tmp_path / "none")
    with atf.query.connect(tmp_path) as client, pytest.raises(UsageError, match="trace_id"):
        client.trace_info()


def test_no_server_there(tmp_path):
    for url in (f"http://127.0.0.1:{query_server.free_port()}", f"unix:{tmp_path}/none.sock"):
        with atf.query.connect(url) as client, pytest.raises(atf.query.TransportError, match="cannot be asked"):
            client.call("trace.info", {})


def test_threads_share_a_client(client):
    found = []

    def ask():
        for _ in range(20):
            found.append(client.trace_info(trace_id=doctraces.MONDAY).event_count)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == [150] * 80


def test_the_methods_are_those_of_the_engine():
    """Else: run .ci/client-methods."""
    if os.environ.get("ATF_INSTALLED") or not (ROOT / ".ci").exists():
        pytest.skip("asks a checkout")
    done = subprocess.run([sys.executable, ROOT / ".ci/client-methods", "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == (ROOT / "query/client_methods.py").read_text(), done.stderr


def test_each_method_passes_all_its_params_on(client):
    """By their names, to the method of its name."""
    sent = []
    client._ask = lambda method, params, result: sent.append((method, params, result))
    client.trace_id = "t"
    methods = [method for method in all_methods() if not method.name.startswith("rpc.")]
    for method in methods:
        fields = {one.name: one.encode_name for one in msgspec.structs.fields(method.params)}
        getattr(client, method.name.replace(".", "_"))(**dict.fromkeys(fields, 1))
        assert sent.pop() == (method.name, dict.fromkeys(fields.values(), 1), method.result)
    assert set(RESULTS) == {method.name for method in methods} and issubclass(Client, ClientMethods)


def test_import_is_light():
    code = "import sys, atf.query; print(any(name in sys.modules for name in ('msgspec', 'numpy', 'starlette', 'http.client')))"
    done = subprocess.run([sys.executable, "-c", code], env=query_server.environment(), capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    with pytest.raises(AttributeError, match="nothing"):
        getattr(atf.query, "nothing")  # noqa: B009
