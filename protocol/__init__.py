"""What travels between processes: messages, their bytes, the tensor layout and the transports."""

if __name__ != "ps.protocol":
    raise ImportError(f"import this package as ps.protocol, not as {__name__!r}")
