"""Secure aggregation: deltas become masked integers, of which only the sum can be read. Pure: no sockets."""
