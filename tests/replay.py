"""Replays the examples of the documents: every ```json request block of docs/query.md and docs/query/*.md is sent, and its answer
compared with the ```json reply block that follows it. A request without a reply block is one that is not answered (a notification).

    python tests/replay.py --write docs/query/events.md    (re)writes the reply blocks of a file

The requests run on the traces of tests/doctraces.py. Members that differ from run to run (VOLATILE) are shown with a fixed value.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
import doctraces

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "docs/query.md", *sorted((ROOT / "docs/query").glob("*.md"))]
VOLATILE = {"executionTimeMs": 0.4}
WIDTH = 130
BLOCK = re.compile(r"^```json (request|reply)\n(.*?)^```\n", re.M | re.S)


class Example(NamedTuple):
    """line: where the request's fence stands; end: offset behind the request block; reply: (start, end) of the reply's block, or None."""

    line: int
    request: str
    end: int
    reply: tuple[int, int] | None
    said: str


def examples(text: str) -> list[Example]:
    found: list[Example] = []
    for match in BLOCK.finditer(text):
        kind, body = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        if kind == "request":
            found.append(Example(line, body, match.end(), None, ""))
        elif not found or found[-1].reply:
            raise ValueError(f"line {line}: a reply without a request before it")
        else:
            found[-1] = found[-1]._replace(reply=match.span(), said=body)
    return found


def steady(value: Any) -> Any:
    """The value with its volatile members fixed."""
    if isinstance(value, dict):
        return {name: VOLATILE.get(name, steady(inner)) for name, inner in value.items()}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def pretty(value: Any, margin: int = 0, before: int = 0) -> str:
    """JSON for reading: whatever fits into WIDTH columns stands on one line. before: columns taken to its left."""
    flat = msgspec.json.format(msgspec.json.encode(value), indent=0).decode()
    if len(flat) + before <= WIDTH or not isinstance(value, (dict, list)) or not value:
        return flat
    pad = " " * (margin + 2)
    if isinstance(value, dict):
        heads = [msgspec.json.encode(name).decode() + ": " for name in value]
        items = [head + pretty(inner, margin + 2, margin + 3 + len(head)) for head, inner in zip(heads, value.values())]
    else:
        items = [pretty(inner, margin + 2, margin + 3) for inner in value]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return opening + "\n" + ",\n".join(pad + item for item in items) + "\n" + " " * margin + closing


class Shop:
    """The engine over the traces of the documents, without a server. Every request sees them as if it were the first one."""

    def __init__(self) -> None:
        from atf.query.methods import all_methods
        from atf.query.rpc import Rpc

        self.rpc = Rpc(all_methods())

    def ask(self, request: str) -> Any:
        """The steady answer to the text of a request; None when there is none."""
        from atf.query.context import Context
        from atf.query.traces import Traces

        with tempfile.TemporaryDirectory() as directory:
            doctraces.write(directory)
            body = self.rpc.answer(request.encode(), Context(Traces(directory))).body
        return None if body is None else steady(msgspec.json.decode(body))


def rewrite(path: Path, shop: Shop) -> None:
    text, out, at = path.read_text(), [], 0
    for example in examples(text):
        answer = shop.ask(example.request)
        out.append(text[at : example.end])
        if answer is not None:
            out.append(f"{text[example.end : example.reply[0]] if example.reply else ''}```json reply\n{pretty(answer)}\n```\n")
        at = example.reply[1] if example.reply else example.end
    path.write_text("".join(out) + text[at:])


if __name__ == "__main__":
    if sys.argv[1:2] != ["--write"]:
        raise SystemExit(__doc__)
    for name in sys.argv[2:]:
        rewrite(Path(name), Shop())
