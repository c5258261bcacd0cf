"""The checksums of S3, computed here so that a wrong one is refused.

CRC32C and CRC64NVME are table-driven Python (about 6 MiB/s): right, not fast; the others come from C.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import zlib


@functools.cache
def _tables(polynomial: int) -> list[list[int]]:
    first = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ polynomial if value & 1 else value >> 1
        first.append(value)
    tables = [first]
    for _ in range(7):
        tables.append([first[value & 255] ^ (value >> 8) for value in tables[-1]])
    return tables


def _reflected_crc(content: bytes, polynomial: int, bits: int) -> bytes:
    t0, t1, t2, t3, t4, t5, t6, t7 = _tables(polynomial)
    ones = (1 << bits) - 1
    crc, whole = ones, len(content) // 8 * 8
    for word in memoryview(content)[:whole].cast("Q"):
        crc ^= word
        crc = (
            t7[crc & 255]
            ^ t6[crc >> 8 & 255]
            ^ t5[crc >> 16 & 255]
            ^ t4[crc >> 24 & 255]
            ^ t3[crc >> 32 & 255]
            ^ t2[crc >> 40 & 255]
            ^ t1[crc >> 48 & 255]
            ^ t0[crc >> 56]
        )
    for byte in content[whole:]:
        crc = (crc >> 8) ^ t0[(crc ^ byte) & 255]
    return (crc ^ ones).to_bytes(bits // 8, "big")


_ALGORITHMS = {
    "CRC32": lambda content: zlib.crc32(content).to_bytes(4, "big"),
    "CRC32C": lambda content: _reflected_crc(content, 0x82F63B78, 32),
    "CRC64NVME": lambda content: _reflected_crc(content, 0x9A6C9329AC4BC9B5, 64),
    "SHA1": lambda content: hashlib.sha1(content, usedforsecurity=False).digest(),
    "SHA256": lambda content: hashlib.sha256(content).digest(),
}


def is_known(algorithm: str) -> bool:
    """Whether S3 has the algorithm (upper case)."""
    return algorithm in _ALGORITHMS


def checksum(content: bytes, algorithm: str) -> str:
    """The checksum as S3 writes it in headers: base64 of the big-endian value."""
    return base64.b64encode(_ALGORITHMS[algorithm](content)).decode()


def md5(content: bytes) -> str:
    """The MD5 as Content-MD5 carries it."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
