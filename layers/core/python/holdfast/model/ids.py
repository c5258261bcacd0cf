"""Names derived from what they name, so that a retry makes the same name again.

Session, restore point and client tokens must stay functions of (policy, slot, resource): idempotency
of the whole system rests on it.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime


def _digest(*parts: str) -> str:
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()


def stamp(moment: datetime) -> str:
    """``20261122T070000Z``: an instant in names; sorts as time does."""
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def parse_stamp(text: str) -> datetime:
    """The instant that :func:`stamp` wrote. Raises ValueError."""
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def session_id(policy: str, slot: datetime, region: str = "") -> str:
    """One session per policy and slot; valid as a Step Functions execution name (at most 80 characters).

    With ``region``, one per Region: windows of SLA templates are local to it.
    """
    slug = re.sub(r"[^A-Za-z0-9]+", "-", policy).strip("-")[:40]
    digest = _digest(policy, region) if region else _digest(policy)
    return f"{stamp(slot)}-{slug}-{digest[:8]}"


def day_id(policy: str, on: date) -> str:
    """One per policy and local date; valid as a Step Functions execution name."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", policy).strip("-")[:40]
    return f"{on:%Y%m%d}-{slug}-{_digest(policy)[:8]}"


def slot_of(session: str) -> datetime | None:
    """The slot in the name of a session; None for a name that is not one."""
    try:
        return parse_stamp(session[:16])
    except ValueError:
        return None


def point_id(session: str, instance_id: str) -> str:
    """The restore point that a session makes of an instance."""
    return f"{session[:16]}-{_digest(session, instance_id)[:12]}"


def metric_label(policy: str) -> str:
    """A policy's name as CloudWatch takes it for a dimension, which is printable ASCII; no two are alike."""
    if policy.isascii() and policy.isprintable():
        return policy
    slug = re.sub(r"[^A-Za-z0-9]+", "-", policy).strip("-")
    return f"{slug}-{_digest(policy)[:8]}".strip("-")


def client_token(*parts: str) -> str:
    """An idempotency token (at most 64 characters) for AWS create calls."""
    return _digest(*parts)[:64]
