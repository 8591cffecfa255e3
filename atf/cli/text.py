"""How numbers and tables look: rich on a terminal, plain aligned columns in a pipe."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from atf.wording import clean, count, duration

__all__ = ["clean", "count", "duration", "on_terminal", "print_fields", "print_table", "size", "tail"]

def size(count: int) -> str:
    """A number of bytes: ``1.5 MiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    step = min(max(count.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{count / 1024**step:.1f} {units[step]}" if step else f"{count} B"


def tail(shown: str, length: int) -> str:
    """The end of a long text, where a path says the most."""
    return shown if len(shown) <= length else "…" + shown[1 - length :]


def on_terminal() -> bool:
    return sys.stdout.isatty()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Print rows under their columns; a column whose name begins with ``>`` is set to the right. Only a terminal gets the title."""
    names = [name.lstrip(">") for name in columns]
    cells = [[clean(str(cell)) for cell in row] for row in rows]
    if on_terminal():
        _print_rich(columns, names, cells, title)
        return
    widths = [max(map(len, column)) for column in zip(names, *cells)]
    for row in (names, *cells):
        parts = [cell.rjust(w) if name.startswith(">") else cell.ljust(w) for cell, w, name in zip(row, widths, columns)]
        print("  ".join(parts).rstrip())


def _print_rich(columns: Sequence[str], names: Sequence[str], cells: Iterable[Sequence[str]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", title=title or None, title_justify="left", title_style="bold")
    for column, name in zip(columns, names):
        table.add_column(name, justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print ``name  value`` lines."""
    listed = list(fields)
    width = max((len(name) for name, _ in listed), default=0)
    for name, value in listed:
        print(f"{name.ljust(width)}  {clean(value)}".rstrip())
