"""Snapshots that a person asks for."""
