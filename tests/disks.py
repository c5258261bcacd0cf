"""What simulated disks hold, told quickly: zeros are not hashed."""

from __future__ import annotations

import hashlib

from holdfast.model.blocks import BLOCK_SIZE
from simulator.ebs import SnapshotContent


def noise(seed: str) -> bytes:
    """A block that does not compress, so that packs have ranges to read one after the other."""
    return hashlib.shake_256(seed.encode()).digest(BLOCK_SIZE)


def fingerprint(held: SnapshotContent) -> str:
    """SHA-256 over size, and over index and bytes of every block that is not zero."""
    digest = hashlib.sha256(held.size_bytes.to_bytes(8, "big"))
    for index in held.allocated():
        data = held.block(index)
        if data and any(data):
            digest.update(index.to_bytes(8, "big") + data)
    return digest.hexdigest()
