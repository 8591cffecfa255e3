"""The examples of the documents are what the engine says."""

import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import replay

ROOT = Path(__file__).parents[2]
FOUND = [(path, example) for path in replay.DOCUMENTS for example in replay.examples(path.read_text())]


@pytest.fixture(scope="module")
def shop():
    return replay.Shop()


@pytest.mark.parametrize(("path", "example"), FOUND, ids=[f"{path.relative_to(ROOT / 'docs')}:{example.line}" for path, example in FOUND])
def test_example(shop, path, example):
    answer = shop.ask(example.request)
    said = replay.steady(msgspec.json.decode(example.said)) if example.reply else None
    assert answer == said, f"`python tests/replay.py --write {path.relative_to(ROOT)}` writes the answer of today"


def test_every_method_has_an_example(shop):
    asked = set()
    for _, example in FOUND:
        decoded = msgspec.json.decode(example.request)
        asked |= {one.get("method") for one in (decoded if isinstance(decoded, list) else [decoded])}
    assert set(shop.rpc.methods) - asked == set()


def test_blocks_are_found_and_paired():
    text = 'a\n```json request\n{"id": 1}\n```\nb\n```json reply\n{"x":\n 2}\n```\n```json request\n{}\n```\n```json\nno\n```\n'
    first, second = replay.examples(text)
    assert (first.line, first.request, first.said, second.reply) == (2, '{"id": 1}\n', '{"x":\n 2}\n', None)
    with pytest.raises(ValueError, match="line 1"):
        replay.examples("```json reply\n{}\n```\n")


def test_pretty_is_the_same_json_in_short_lines():
    value = {"a": [{"number": n, "text": "é" * n} for n in range(40)], "b": {}, "c": [], "d": None}
    text = replay.pretty(value)
    assert msgspec.json.decode(text) == value
    assert max(map(len, text.splitlines())) <= replay.WIDTH
