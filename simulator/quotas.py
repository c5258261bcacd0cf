"""Request quotas per account, Region and operation, as EBS direct APIs have them.

A bucket refills in real time: clients that are throttled wait in real time while the virtual clock stands
still.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from simulator.calls import Call


class Quotas:
    """Token buckets of one second's worth of requests; operations without a rate are never throttled."""

    def __init__(self, per_second: Mapping[str, int]) -> None:
        self._rates = {name: rate for name, rate in per_second.items() if rate > 0}
        self._left: dict[tuple[str, str, str], tuple[float, float]] = {}
        self._lock = threading.Lock()

    def is_exceeded(self, call: Call) -> bool:
        """Count a call against the quota of its operation; true when it is over."""
        rate = self._rates.get(call.operation)
        if call.service != "ebs" or rate is None:
            return False
        bucket, now = (call.account, call.region, call.operation), time.monotonic()
        with self._lock:
            left, before = self._left.get(bucket, (float(rate), now))
            left = min(rate, left + (now - before) * rate)
            self._left[bucket] = (max(0.0, left - 1), now)
        return left < 1
