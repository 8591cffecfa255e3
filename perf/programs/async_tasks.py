"""Two thousand asyncio tasks that wait for each other a few times: coroutines, callbacks and the event loop's own code."""

from __future__ import annotations

import asyncio

FULL, QUICK = 2_000, 20
CHECKSUMS = {FULL: 686413668, QUICK: 672751670}
STAGES = 2


class Ledger:
    def __init__(self) -> None:
        self.total = 0

    def post(self, amount: int) -> None:
        self.total = (self.total * 13 + amount) % 1_000_003


async def stage(number: int, step: int) -> int:
    await asyncio.sleep(0)
    return (number * 7 + step) % 101


async def job(number: int, ledger: Ledger, turnstile: asyncio.Semaphore) -> int:
    done = 0
    for step in range(STAGES):
        async with turnstile:
            done += await stage(number, step)
    ledger.post(done)
    return done


async def run(size: int) -> int:
    ledger, turnstile = Ledger(), asyncio.Semaphore(size)
    tasks = [asyncio.create_task(job(number, ledger, turnstile)) for number in range(size)]
    results = await asyncio.gather(*tasks)
    return ledger.total * 1_000 + sum(results) % 1_000


def main(size: int = FULL) -> int:
    return asyncio.run(run(size))
