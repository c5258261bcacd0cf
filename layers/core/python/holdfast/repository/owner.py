"""owner.json: the one installation that may write to a repository and expire its points.

It guards against two installations that were pointed at one folder by mistake; who can write the bucket can
write this file too, so it proves nothing to an attacker.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from holdfast.errors import ConflictError, DamagedError, NotFoundError
from holdfast.model.ids import stamp
from holdfast.ports import ObjectStore
from holdfast.repository.header import open_document, seal_document
from holdfast.repository.layout import OWNER_KEY


@dataclass(frozen=True, slots=True)
class Owner:
    """``epoch`` counts take-overs from 1; ``claimed_at`` is a stamp (``20261122T070000Z``)."""

    installation: str
    epoch: int
    claimed_at: str


def read_owner(store: ObjectStore, repository_id: str) -> Owner | None:
    """Who owns the repository; None when nobody has claimed it. Raises DamagedError."""
    try:
        return _decode(store.get(OWNER_KEY), repository_id)
    except NotFoundError:
        return None


def claim(
    store: ObjectStore, repository_id: str, installation: str, now: datetime, *, take_over: bool = False
) -> Owner:
    """Own the repository from now on; nothing happens when ``installation`` owns it already.

    Raises ConflictError naming the owner when it is another one, unless ``take_over``, which ends the other's
    ownership. A damaged owner.json is replaced by a take-over alone.
    """
    try:
        stat = store.stat(OWNER_KEY)
        current: Owner | None = _decode(store.get(OWNER_KEY), repository_id)
    except NotFoundError:
        owner = Owner(installation, 1, stamp(now))
        store.put_new(OWNER_KEY, _encode(owner, repository_id))
        return owner
    except DamagedError:
        if not take_over:
            raise
        current = None
    if current is not None and current.installation == installation:
        return current
    if not take_over and current is not None:
        raise owned_by(current)
    owner = Owner(installation, current.epoch + 1 if current else 1, stamp(now))
    store.replace(OWNER_KEY, _encode(owner, repository_id), etag=stat.etag)
    return owner


def require_owner(store: ObjectStore, repository_id: str, installation: str) -> Owner:
    """Raises ConflictError when ``installation`` does not own the repository."""
    owner = read_owner(store, repository_id)
    if owner is None:
        raise ConflictError(
            "Nobody has claimed this repository.", resource=OWNER_KEY, remedy="Claim it before writing to it."
        )
    if owner.installation != installation:
        raise owned_by(owner)
    return owner


def owned_by(owner: Owner) -> ConflictError:
    return ConflictError(
        f"The repository belongs to installation {owner.installation!r} since {owner.claimed_at}.",
        resource=OWNER_KEY,
        remedy="Stop that installation and take the repository over explicitly, or use another folder.",
    )


def _encode(owner: Owner, repository_id: str) -> bytes:
    return seal_document(
        {
            "claimed_at": owner.claimed_at,
            "epoch": owner.epoch,
            "installation": owner.installation,
            "repository_id": repository_id,
        }
    )


def _decode(content: bytes, repository_id: str) -> Owner:
    document = open_document(content, OWNER_KEY)
    if document.pop("repository_id", None) != repository_id:
        raise DamagedError(f"{OWNER_KEY} belongs to another repository.", resource=OWNER_KEY)
    try:
        return Owner(**document)
    except TypeError:
        raise DamagedError(f"{OWNER_KEY} has other fields than an owner.", resource=OWNER_KEY) from None
