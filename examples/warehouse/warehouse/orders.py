"""From an order to parcels."""

from warehouse.stock import OutOfStock, Stock

SITES = {"north", "south"}


def fulfil(stock: Stock, quantity: int) -> list[tuple[str, int]]:
    """Parcels as (site, quantity): one, if a site has all that is ordered."""
    for site in SITES:
        try:
            return [send(stock, site, quantity)]
        except OutOfStock:
            return split(stock, quantity)
    return []


def send(stock: Stock, site: str, quantity: int) -> tuple[str, int]:
    stock.reserve(site, quantity)
    return site, quantity


def split(stock: Stock, quantity: int) -> list[tuple[str, int]]:
    """A parcel from every site, the emptiest first, as much as it has."""
    parcels = []
    for site in sorted(stock.sites, key=stock.sites.__getitem__):
        if taken := min(stock.sites[site], quantity):
            parcels.append(send(stock, site, taken))
            quantity -= taken
    return parcels
