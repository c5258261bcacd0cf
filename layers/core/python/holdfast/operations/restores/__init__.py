"""Volumes and instances from restore points."""
