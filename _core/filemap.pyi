"""A read-only view of a file's first bytes, as a buffer that owns its mapping."""

import os

class FileMap:
    """The first `size` bytes of an open file; implements the buffer protocol."""

    @property
    def size(self) -> int: ...
    def __new__(cls, fd: int, size: int, path: str | os.PathLike[str]) -> FileMap: ...
    def check(self) -> None: ...
