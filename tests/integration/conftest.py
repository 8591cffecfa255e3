"""Fixtures of the tests that run real programs."""

import pytest
from live import benched


@pytest.fixture
def bench(tmp_path):
    with benched(tmp_path) as made:
        yield made
