"""Questions about recorded traces."""

if __name__ != "atf.query":
    raise ImportError("import this package as atf.query")
