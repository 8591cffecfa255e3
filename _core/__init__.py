"""The compiled rooms: what is written, how it gets to disk, and how it is read."""

if __name__ != "atf._core":
    raise ImportError("import this package as atf._core")
