"""A flight recorder for programs and their tests."""

__version__ = "0.1.0"
