"""A small shop's evening: orders are read, checked, priced by two threads, and summed up. Run it by itself or under `atf record`."""

import dataclasses
import functools
import json
import queue
import random
import threading

PRICES = {"apple": 40, "bread": 320, "cheese": 790, "milk": 125, "tea": 410}


class BadOrder(ValueError):
    """An order that cannot be priced."""


@dataclasses.dataclass
class Order:
    number: int
    customer: str
    items: dict[str, int]


def write_orders(count: int, seed: int = 7) -> list[str]:
    """Orders as lines of JSON; about one in ten has something wrong with it."""
    choose = random.Random(seed)
    lines = []
    for number in range(count):
        names = choose.sample(sorted(PRICES), choose.randint(1, 3))
        items = {name: choose.randint(1, 5) for name in names}
        if number % 10 == 3:
            items["caviar" if number % 20 == 3 else names[0]] = -1
        lines.append(json.dumps({"number": number, "customer": f"customer {number % 12}", "items": items}))
    return lines


def parse(line: str) -> Order:
    return Order(**json.loads(line))


def check(order: Order) -> None:
    for name, amount in order.items.items():
        if name not in PRICES:
            raise BadOrder(f"order {order.number}: there is no {name}")
        if amount <= 0:
            raise BadOrder(f"order {order.number}: {amount} × {name}")


@functools.cache
def discount_percent(amount: int) -> int:
    """The more, the cheaper: worked out step by step, to have something that calls itself."""
    return 0 if amount <= 1 else min(20, discount_percent(amount - 1) + 3)


def price(order: Order) -> int:
    return sum(line_price(name, amount) for name, amount in order.items.items())


def line_price(name: str, amount: int) -> int:
    return PRICES[name] * amount * (100 - discount_percent(amount)) // 100


def handle(line: str, totals: dict[str, int], refused: list[str], lock: threading.Lock) -> None:
    order = parse(line)
    try:
        check(order)
    except BadOrder as error:
        refused.append(str(error))
        return
    cents = price(order)
    with lock:
        totals[order.customer] = totals.get(order.customer, 0) + cents


def worker(lines: "queue.SimpleQueue[str | None]", totals: dict[str, int], refused: list[str], lock: threading.Lock) -> None:
    while (line := lines.get()) is not None:
        handle(line, totals, refused, lock)


def report(totals: dict[str, int], refused: list[str]) -> str:
    best = max(totals, key=lambda customer: totals[customer])
    return f"{len(totals)} customers, {sum(totals.values()) / 100:.2f} in all, the best is {best}; {len(refused)} orders refused"


def main() -> None:
    totals: dict[str, int] = {}
    refused: list[str] = []
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    lock = threading.Lock()
    workers = [threading.Thread(target=worker, args=(lines, totals, refused, lock), name=f"till {number}") for number in (1, 2)]
    for each in workers:
        each.start()
    for line in write_orders(1000):
        lines.put(line)
    for _ in workers:
        lines.put(None)
    for each in workers:
        each.join()
    print(report(totals, refused))


if __name__ == "__main__":
    main()
