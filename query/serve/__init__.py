"""The HTTP face of the query engine: sockets, limits, who may ask, and what is told about it."""
