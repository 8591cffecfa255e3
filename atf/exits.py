"""What `atf` and `python -m atf.query` share: how wrong usage is told, and how a command ends.

0 done, 1 one of our errors, 2 wrong usage, 130 interrupted, 141 the reader of our output went away.
"""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from atf.errors import AtfError, UsageError


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all of our errors do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"atf: {message} (see {self.prog} --help)\n")


def exit_status(run: Callable[[], int]) -> int:
    """What `run` returns, or the status of how it ended."""
    try:
        status = run()
        sys.stdout.flush()
        return status
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except AtfError as error:
        print(f"atf: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit: give it something that can be written to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
