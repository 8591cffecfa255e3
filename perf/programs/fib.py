"""Nothing but calls: the recursive Fibonacci numbers. The worst case of a tracer, 242 785 calls at full size."""

FULL, QUICK = 25, 12
CHECKSUMS = {FULL: 75_025, QUICK: 144}


def fib(n: int) -> int:
    if n < 2:
        return n
    return fib(n - 1) + fib(n - 2)


def main(size: int = FULL) -> int:
    return fib(size)
