"""Bodies that no client should send, as many as wanted, the same for the same seed: broken JSON, JSON that is no request, and
requests of real methods with params of every kind."""

import json
import random
import types
import typing

import msgspec

from atf.query.methods import all_methods
from atf.query.params import fields_of

CODES = {0, -32700, -32600, -32601, -32602, -32000, -32003, -32004}  # what may be answered; -32603 is a fault of ours
_LEAVES = [
    *(None, True, False, 0, 1, -1, 1.5, -0.0, 1e308, 2**31, 2**53 + 1, 2**63, 2**64, 2**64 - 1, -(2**63) - 1, 10**40),
    *("", "x", "0", "0x1", "../..", "/etc/passwd", "a\x00b", "*", "[", "[!", "\\", "?" * 50, "*" * 60, "é", "😀", "null", "%2e", "a" * 3000, "1:2:3", "410:5000000001000:0", "r-1"),
]
_KEYS = ["jsonrpc", "id", "method", "params", "traceId", "filters", "", "__proto__", "x" * 500, "é"]
_TOKENS = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\\ud800", b"NaN", b"Infinity", b"-", b"1e999", b"\x00", b"\xff", b"\xed\xa0\x80", b"null", b"/*", b"\xef\xbb\xbf"]
_WORDS = ["discount", "shop", "*", "dis*", "[a-c]*", "ok", "call", "functionCall", "410", "410:5000000001000:0", "421:5000000023000:1", "421:3", "r-1", "r-9", "till 1", "0x300000009"]
_NUMBERS = [0, 1, 2, 3, 5, 7, 100, 410, 421, 1000, 4096, 10_000, 10_001, 1 << 20, 5_000_000_000_000, 5_000_000_100_000, 2**53, 2**63, 2**64 - 1, -1]
METHODS = {method.name: method.params for method in all_methods()}


class Bodies:
    """trace_ids: of traces that are there, so that some requests get far."""

    def __init__(self, seed, trace_ids):
        self.choose, self.trace_ids = random.Random(seed), list(trace_ids)

    def value(self, depth=0):
        kind = self.choose.random()
        if depth > 3 or kind < 0.6:
            return self.choose.choice(_LEAVES)
        if kind < 0.8:
            return [self.value(depth + 1) for _ in range(self.choose.randrange(4))]
        return {self.choose.choice(_KEYS): self.value(depth + 1) for _ in range(self.choose.randrange(4))}

    def fitting(self, kind):
        """A value of about the type that a member wants."""
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        if origin is typing.Annotated:
            return self.fitting(parts[0])
        if origin in (typing.Union, types.UnionType):
            return self.fitting(self.choose.choice(parts))
        if origin is typing.Literal:
            return self.choose.choice(parts)
        if origin is list:
            return [self.fitting(parts[0]) for _ in range(self.choose.randrange(4))]
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return {name: self.fitting(one.type) for name, (one, _) in fields_of(kind).items() if self.choose.random() < 0.3}
        if kind is bool:
            return self.choose.random() < 0.5
        if kind in (int, float):
            return self.choose.choice(_NUMBERS)
        return self.choose.choice(_WORDS) if kind is str else None if kind is types.NoneType else self.value()

    def request(self):
        name = self.choose.choice(list(METHODS)) if self.choose.random() < 0.9 else str(self.value())[:300]
        fields = fields_of(METHODS[name]) if name in METHODS else {}
        members, odd = list(fields), 0.03 if self.choose.random() < 0.7 else 0.8
        params = {
            member: self.value() if self.choose.random() < odd else self.fitting(one.type)
            for member, (one, _) in fields.items()
            if one.required or self.choose.random() < 0.25
        }
        for member in ("traceId", "other"):
            if member in members and self.choose.random() < 0.85:
                params[member] = self.choose.choice(self.trace_ids)
        if self.choose.random() < 0.1:
            params[self.choose.choice(_KEYS)] = self.value()
        request = {"jsonrpc": "2.0", "id": self.choose.choice(_LEAVES), "method": name, "params": params}
        if self.choose.random() < 0.1:
            request["params"] = self.choose.choice([list(params.values()), self.value()])
        if self.choose.random() < 0.15:
            request[self.choose.choice(list(request))] = self.value()
        if self.choose.random() < 0.15:
            del request[self.choose.choice(list(request))]
        return request

    def broken(self, body):
        body = bytearray(body)
        for _ in range(self.choose.randrange(1, 4)):
            at = self.choose.randrange(len(body) + 1)
            kind = self.choose.randrange(5)
            if kind == 0:
                body = body[:at]
            elif kind == 1:
                body[at:at] = self.choose.choice(_TOKENS)
            elif kind == 2:
                body[at : at + self.choose.randrange(6)] = b""
            elif kind == 3 and body:
                body[at % len(body)] ^= 1 << self.choose.randrange(8)
            else:
                body[at:at] = body[at : at + 40] * self.choose.randrange(3)
        return bytes(body)

    def __iter__(self):
        while True:
            kind = self.choose.random()
            if kind < 0.02:
                yield self.choose.choice([b"[", b'{"a":', b'[{"a":', b"[[[1],"]) * self.choose.randrange(1, 60_000)
            elif kind < 0.04:
                yield self.choose.randbytes(self.choose.randrange(300))
            elif kind < 0.06:
                yield json.dumps([self.value() for _ in range(self.choose.choice([0, 1, 5, 100, 101, 400]))]).encode()
            elif kind < 0.12:
                yield json.dumps([self.request() for _ in range(self.choose.randrange(12))], ensure_ascii=self.choose.random() < 0.5).encode()
            elif kind < 0.6:
                yield json.dumps(self.request()).encode()
            else:
                yield self.broken(json.dumps(self.request()).encode())


def judge(body, status, answer):
    """Raises AssertionError unless an answer is a good one to a bad body."""
    assert status in (200, 204), (status, body[:500])
    assert (status == 204) == (not answer), body[:500]
    if not answer:
        return
    said = json.loads(answer)
    for one in said if isinstance(said, list) else [said]:
        assert one["jsonrpc"] == "2.0"
        assert ("result" in one) != ("error" in one)
        assert one.get("error", {}).get("code", 0) in CODES, (one["error"], body[:500])
    assert len(answer) <= 256 * 1024
