"""What the drain counts in C, as Python values; for drain."""

LANES: tuple[str, ...]
__pyx_capi__: dict[str, object]  # for drain
STATES: tuple[str, ...]
REASONS: dict[int, str]
