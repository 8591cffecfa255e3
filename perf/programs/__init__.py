"""The workloads that python_calls.py runs: five small programs that are heavy in calls, each in another way.

Each module has `FULL` and `QUICK` (its sizes), `main(size) -> int` (a checksum that is the same on every Python
and in every run), and `CHECKSUMS` (what main returns for the two sizes).
"""

NAMES = ("fib", "scheduler", "raytrace", "json_encoder", "async_tasks")
