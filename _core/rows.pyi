"""What the drain counts in C, as Python values; for drain."""

__pyx_capi__: dict[str, object]  # for drain
LANES: tuple[str, ...]
STATES: tuple[str, ...]
REASONS: dict[int, str]
