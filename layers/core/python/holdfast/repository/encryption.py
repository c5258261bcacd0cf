"""Changing how a repository is encrypted: enable, and rewrap.

Encryption is enabled once and never turned off. What was written before stays readable through a sealed
list of the points of that time; a plain point that is not on it was put there by somebody else.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from holdfast.errors import ConflictError, DamagedError
from holdfast.ports import IdSource, KeyWrapper, ObjectStore
from holdfast.repository.envelope import seal_envelope
from holdfast.repository.header import (
    AdoptedPoints,
    Header,
    KeyHeader,
    decode_header,
    encode_header,
    verify_mac,
)
from holdfast.repository.keys import KEY_SIZE
from holdfast.repository.layout import ID_SIZE, REPOSITORY_KEY, ObjectKind, adopted_key
from holdfast.repository.repository import Repository, read_header


def rewrap(repository: Repository, key_wrapper: KeyWrapper) -> Repository:
    """Wrap the repository key anew (other password, other KMS key); only repository.json is rewritten.

    Raises ConflictError when the repository is not encrypted or somebody else changed it meanwhile.
    """
    secret = repository.keys.secret
    if secret is None:
        raise ConflictError(
            "The repository is not encrypted.", resource=REPOSITORY_KEY, remedy="Enable encryption."
        )
    store = repository.store
    etag = store.stat(REPOSITORY_KEY).etag
    header, mac = decode_header(read_header(store))
    if header.encryption is None:
        raise DamagedError("The repository is not encrypted any more.", resource=REPOSITORY_KEY)
    verify_mac(header, mac, secret)
    wrapped = dict(key_wrapper.wrap(secret, header.repository_id))
    return _replace(store, header, replace(header.encryption, key=wrapped), secret, etag)


def enable_encryption(store: ObjectStore, key_wrapper: KeyWrapper, *, ids: IdSource) -> Repository:
    """Encrypt all that is written from now on; the next run of each chain is a full.

    Points that exist are verified, listed in a sealed object, and stay readable. When it is interrupted,
    call it again. Raises ConflictError when the repository was created encrypted or is being changed by
    somebody else, DamagedError when an existing point is damaged (delete it first).
    """
    etag = store.stat(REPOSITORY_KEY).etag
    header, _ = decode_header(read_header(store))
    if header.encryption is None:
        secret = ids.random_bytes(KEY_SIZE)
        wrapped = dict(key_wrapper.wrap(secret, header.repository_id))
        begun = KeyHeader(epoch=1, key=wrapped, plain_points="pending")
        repository = _replace(store, header, begun, secret, etag)
        etag = store.stat(REPOSITORY_KEY).etag
    else:
        repository = Repository.open(store, key_wrapper)
    encryption = repository.header.encryption
    if encryption is None or encryption.plain_points != "pending" or repository.keys.secret is None:
        raise ConflictError("The repository is encrypted already.", resource=REPOSITORY_KEY)
    adopted = _adopt(repository, ids)
    final = replace(encryption, plain_points=adopted)
    return _replace(store, repository.header, final, repository.keys.secret, etag)


def _adopt(repository: Repository, ids: IdSource) -> AdoptedPoints:
    """Write the list of plain points: manifest key -> SHA-256 of the object."""
    plain = Repository(repository.store, replace(repository.header, encryption=None), secret=None)
    points = {}
    for name in plain.list_points():
        content = repository.store.get(name.key)
        if content[6:7] == b"\0":
            plain.read_point(name)
            points[name.key] = hashlib.sha256(content).hexdigest()
    key = adopted_key(ids.random_bytes(ID_SIZE))
    content = seal_envelope(repository.keys, ObjectKind.ADOPTED, key, points, ids)
    repository.store.put_new(key, content)
    return AdoptedPoints(key=key, digest=hashlib.sha256(content).hexdigest())


def _replace(
    store: ObjectStore, header: Header, encryption: KeyHeader, secret: bytes, etag: str
) -> Repository:
    changed = replace(header, encryption=encryption)
    store.replace(REPOSITORY_KEY, encode_header(changed, secret), etag=etag)
    return Repository(store, changed, secret)
