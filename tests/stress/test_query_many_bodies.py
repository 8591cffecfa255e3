"""100,000 bad bodies over real connections. Forbidden: a 5xx, a -32603, an answer that does not come, memory that grows."""

import itertools
import sys
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import badbodies
import doctraces
from query_server import JSON, serving

BODIES = 100_000
GROWTH_BYTES = 24 << 20


@pytest.mark.stress
def test_a_hundred_thousand_bad_bodies(tmp_path):
    doctraces.write(tmp_path)
    ids = [doctraces.MONDAY, doctraces.TUESDAY, f"{doctraces.MONDAY}/pid_411"]
    with serving(tmp_path, "--rate", "0") as server, httpx.Client(timeout=20) as client:
        resident = []
        for n, body in enumerate(itertools.islice(badbodies.Bodies(4, ids), BODIES)):
            answer = client.post(server.url, content=body, headers=JSON)
            badbodies.judge(body, answer.status_code, answer.content)
            if n % 10_000 == 9_999:
                resident.append(server.resident_bytes())
        assert resident[-1] - resident[0] < GROWTH_BYTES, resident
