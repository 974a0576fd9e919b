"""Engines: what starts jobs on many machines. What each of them runs is rendered here; no process of ours is started.

A new engine is a file with an ``ENGINE`` and a line in ``registry``.
"""
