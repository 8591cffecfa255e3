"""A read-only view of a file's first bytes, as a buffer that owns its mapping."""

import os

__pyx_capi__: dict[str, object]  # for busguard, which looks through the mappings

class FileMap:
    """The first `size` bytes of an open file; implements the buffer protocol."""

    @property
    def size(self) -> int: ...
    @property
    def damaged(self) -> bool: ...
    def __new__(cls, fd: int, size: int, path: str | os.PathLike[str]) -> FileMap: ...
    def check(self) -> None: ...
