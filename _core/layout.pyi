import numpy

EVENT_DTYPE: numpy.dtype[numpy.void]
KINDS: dict[int, str]
GAP_REASONS: dict[int, str]
NOT_KEPT: int
EARLIER: int
DETAIL_TYPES: dict[int, str]
NO_DETAIL: int
INDEX_HEADER: str
INDEX_FOOTER: str
DETAIL_HEADER: str
DETAIL_RECORD: str
DETAIL_FOOTER: str
SIZES: dict[str, int]
