"""Requests that AWS bills for backing up one TiB, by API, and their price.

Listings are counted on a whole segment and block and pack requests on a part of one, as the adapters sent
them; prices are those of us-east-1.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.data_plane import CONNECTIONS, SNAPSHOT, back_up, new_repository, parties
from benchmarks.server import serving
from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS

TIB = 1 << 40
PRICES = {
    "ebs:ListSnapshotBlocks": 0.0006 / 1000,
    "ebs:GetSnapshotBlock": 0.003 / 1000,
    "s3:PutObject": 0.005 / 1000,
    "s3:GetObject": 0.0004 / 1000,
}
"""Dollars for one request: aws.amazon.com/ebs/pricing, aws.amazon.com/s3/pricing."""


def main(count: int = 512) -> dict[str, float]:
    """Print requests and price for each API; return the price of a TiB."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), 96, SEGMENT_BLOCKS, 1) as service:
        worker = parties(service, count)
        listed = sum(1 for _ in worker.reader.allocated(SNAPSHOT, 0, SEGMENT_BLOCKS))
        listing = worker.reader.requests["ebs:ListSnapshotBlocks"] / listed
        repository = new_repository(worker.store)
        sent = worker.reader.requests["ebs:GetSnapshotBlock"], worker.store.requests["s3:PutObject"]
        back_up(worker.reader, repository, count, CONNECTIONS)
        got = worker.reader.requests["ebs:GetSnapshotBlock"] - sent[0]
        # The last pack is not full and the map is one for a segment: neither repeats with every 512 blocks.
        put = worker.store.requests["s3:PutObject"] - sent[1] - 2
    blocks = TIB // BLOCK_SIZE
    per_tib = {
        "ebs:ListSnapshotBlocks": listing * blocks,
        "ebs:GetSnapshotBlock": got / count * blocks,
        "s3:PutObject": put / count * blocks + blocks / SEGMENT_BLOCKS,
    }
    price = sum(PRICES[action] * number for action, number in per_tib.items())
    print(f"requests for 1 TiB of allocated blocks: {price:.2f} USD")
    for action, number in per_tib.items():
        print(f"  {action:26}{number:12,.0f}  {PRICES[action] * number:8.4f} USD")
    return {"usd_per_tib": price}


if __name__ == "__main__":
    main()
