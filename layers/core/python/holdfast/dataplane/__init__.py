"""Moves blocks between snapshots, repositories and image files.

Nothing here knows AWS or waits for it: it works on ports, ends in time, and says exactly how far it came.
"""
