"""rpc.discover: valid OpenRPC, and true: the requests and replies of the documents fit what it says."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

sys.path.insert(0, str(Path(__file__).parents[1]))
import replay
from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.openrpc import discover, document
from atf.query.params import Params, Result
from atf.query.rpc import Method, Rpc
from atf.query.traces import Traces

DATA = Path(__file__).parents[1] / "data/openrpc"


def meta_validator():
    meta, schemas = (json.loads((DATA / name).read_text()) for name in ("openrpc.json", "json-schema.json"))
    resource = Resource(contents=schemas, specification=DRAFT7)
    registry = Registry().with_resources([("https://meta.json-schema.tools", resource), ("https://meta.json-schema.tools/", resource)])
    return Draft7Validator({**meta, "$schema": "http://json-schema.org/draft-07/schema#"}, registry=registry)


def discovered(methods, tmp_path):
    body = Rpc(methods).answer(b'{"jsonrpc":"2.0","id":1,"method":"rpc.discover"}', Context(Traces(tmp_path))).body
    return json.loads(body)["result"]


def test_is_valid_openrpc(tmp_path):
    said = discovered(all_methods(), tmp_path)
    assert [f"{list(error.path)}: {error.message}" for error in meta_validator().iter_errors(said)] == []
    assert [method["name"] for method in said["methods"]] == [method.name for method in all_methods()]
    assert {"trace.info", "rpc.discover"} <= {method["name"] for method in said["methods"]}


def test_the_meta_schema_finds_faults(tmp_path):
    said = discovered(all_methods(), tmp_path)
    said["methods"][0]["params"][0]["schema"] = {"type": "strnig"}
    del said["methods"][0]["result"]
    assert list(meta_validator().iter_errors(said))


class Filters(Params):
    """Which rows."""

    names: list[str] | None = None
    least_ns: Annotated[int, msgspec.Meta(ge=0)] = 0


class Question(Params):
    trace_id: str
    filters: Filters = msgspec.field(default_factory=Filters)


class Empty(Params):
    pass


class Row(Result):
    name: str
    self_ns: int | msgspec.UnsetType = msgspec.UNSET


class Answer(Result):
    rows: list[Row]
    raw: Any


def test_says_what_the_structs_say():
    said = document([Method("a.b", Question, Answer, lambda c, p: None, "Rows."), Method("c", Empty, None, lambda c, p: None, "")])
    first, second = said["methods"]
    assert [(one["name"], one["required"]) for one in first["params"]] == [("traceId", True), ("filters", False)]
    assert second["params"] == []
    schemas = said["components"]["schemas"]
    assert set(schemas) == {"Filters", "Answer", "Row"}
    assert schemas["Filters"]["additionalProperties"] is False
    assert schemas["Filters"]["description"] == "Which rows."
    assert schemas["Filters"]["properties"]["leastNs"]["minimum"] == 0
    assert schemas["Row"]["required"] == ["name"]
    assert [one["code"] for one in first["errors"]][-2:] == [-32000, -32004]
    assert [one["code"] for one in second["errors"]][-1] == -32003


def test_is_made_once():
    calls = []
    method = discover(lambda: calls.append(1) or [])
    assert method.run(None, None) is method.run(None, None)
    assert calls == [1]


DOCUMENT = document(all_methods())
EXAMPLES = [(path, example) for path in replay.DOCUMENTS for example in replay.examples(path.read_text()) if "…" not in example.said]


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=[f"{path.name}:{example.line}" for path, example in EXAMPLES])
def test_examples_of_the_documents_fit(path, example):
    asked, said = json.loads(example.request), json.loads(example.said or "{}")
    method = next((one for one in DOCUMENT["methods"] if isinstance(asked, dict) and one["name"] == asked["method"]), None)
    if method is None or "result" not in said:
        pytest.skip("no answer of one method")

    def faults(schema, value):
        return [error.message for error in Draft202012Validator({**schema, "components": DOCUMENT["components"]}).iter_errors(value)]

    assert faults(method["result"]["schema"], said["result"]) == []
    if isinstance(asked.get("params"), dict):
        schemas = {one["name"]: one["schema"] for one in method["params"]}
        assert {name: faults(schemas[name], value) for name, value in asked["params"].items() if faults(schemas[name], value)} == {}
