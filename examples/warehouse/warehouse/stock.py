"""What lies where."""


class OutOfStock(Exception):
    pass


class Stock:
    def __init__(self, **sites: int) -> None:
        self.sites = sites

    def reserve(self, site: str, quantity: int) -> None:
        if self.sites[site] < quantity:
            raise OutOfStock(f"{site} has {self.sites[site]}, not {quantity}")
        self.sites[site] -= quantity
