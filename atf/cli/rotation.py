"""Options of recordings in parts, for every command that records."""

from __future__ import annotations

import argparse

from atf.cli.common import duration_ns, whole
from atf.errors import UsageError


def add_rotation(parser: argparse.ArgumentParser) -> None:
    """--max-size, --max-age, --max-parts."""
    group = parser.add_argument_group("long recordings", "in whole parts, each a complete trace in a directory part_0001, part_0002, … of the session")
    group.add_argument("--max-size", metavar="SIZE", help="begin the next part when one has e.g. 256M of records")
    group.add_argument("--max-age", metavar="TIME", type=duration_ns, help="begin the next part after e.g. 10min")
    group.add_argument("--max-parts", metavar="N", type=whole, help="keep the newest N parts, delete those before (default: all stay)")


def rotation_config(args: argparse.Namespace) -> dict[str, str]:
    """What was asked for, for the recorder's configuration; {}: one part. UsageError for what cannot be."""
    if args.max_size is None and args.max_age is None and args.max_parts is None:
        return {}
    if args.trigger or args.flight or args.pre_roll_sec is not None or args.post_roll_sec is not None:
        raise UsageError("--max-size and --max-age are for recordings that keep everything: with --trigger and --flight leave them out, marks say what is kept")
    from atf.parts import Limits

    asked = {"max_size": args.max_size, "max_age_ns": args.max_age, "max_parts": args.max_parts}
    config = {name: str(value) for name, value in asked.items() if value is not None}
    Limits.of(config)
    return config
