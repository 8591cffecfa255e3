"""Calls of methods without a server, for tests: results as a client reads them."""

import msgspec

from atf.query.context import Context
from atf.query.methods import all_methods
from atf.query.rpc import Rpc
from atf.query.traces import Traces


class Caller:
    """Methods over the traces below `root`. answer_bytes, timeout_s: of every question."""

    def __init__(self, root, **context):
        self.traces, self.context, self.rpc = Traces(root), context, Rpc(all_methods())

    def bytes(self, method, trace_id, **params):
        result = self.rpc.call(Context(self.traces, **self.context), method, {"traceId": trace_id, **params})
        return msgspec.json.encode(result)

    def __call__(self, method, trace_id, **params):
        return msgspec.json.decode(self.bytes(method, trace_id, **params))


def timeless(result):
    """A result without what differs from call to call."""
    return {name: value for name, value in result.items() if name != "executionTimeMs"}
