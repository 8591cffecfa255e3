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
    """A parcel from every site, as much as it has."""
    parcels = []
    for site, there in sorted(stock.sites.items()):
        if taken := min(there, quantity):
            parcels.append(send(stock, site, taken))
            quantity -= taken
    return parcels
