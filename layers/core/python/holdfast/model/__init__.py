"""Frozen values that every other floor speaks in: no I/O, no clock."""
