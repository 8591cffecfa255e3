import pytest
from warehouse.stock import Stock


@pytest.fixture
def stock():
    return Stock(north=5, south=1)
