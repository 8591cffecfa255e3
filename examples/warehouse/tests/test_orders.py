from warehouse.orders import fulfil, split


def test_one_parcel(stock):
    """Green or red, as the wind blows."""
    assert len(fulfil(stock, 3)) == 1


def test_everything_is_sent(stock):
    assert sum(quantity for _, quantity in fulfil(stock, 6)) == 6


def test_split(stock, trace):
    """What a trace adds to a test: how the answer came about."""
    with trace.window() as w:
        split(stock, 6)
    assert w.calls("warehouse.stock.Stock.reserve", under="warehouse.orders.split") == 2
    assert w.calls("warehouse.orders.send").max_per("warehouse.orders.split") == 2
    w.order("warehouse.orders.split", "warehouse.orders.send", "warehouse.stock.Stock.reserve")
    w.never("warehouse.orders.fulfil")
