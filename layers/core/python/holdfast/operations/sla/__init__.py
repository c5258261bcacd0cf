"""Closing the days of SLA-based policies."""
