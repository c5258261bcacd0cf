"""Copies of snapshots in other Regions and accounts, scheduled or asked for."""
