"""Transports: the ways between workers and servers. One file for each, and one line in ``ps/config/transport.py``."""
