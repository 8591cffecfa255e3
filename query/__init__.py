"""Questions about recorded traces. Everything is imported when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if __name__ != "atf.query":
    raise ImportError("import this package as atf.query")

if TYPE_CHECKING:
    from atf.query.aggregation import aggregate as aggregate
    from atf.query.client import Client as Client
    from atf.query.client import connect as connect
    from atf.query.rpc import RpcError as RpcError
    from atf.query.transports import TransportError as TransportError

_HOMES = {
    "aggregate": "atf.query.aggregation",
    "Client": "atf.query.client",
    "connect": "atf.query.client",
    "RpcError": "atf.query.rpc",
    "TransportError": "atf.query.transports",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'atf.query' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value
