"""Checkpoints on disk: what is in the folder of one, which is the newest whole one, whose turn it is to write.

Scheduler, servers, workers and commands share it; none of it knows of sockets or of how a cut comes about.
"""
