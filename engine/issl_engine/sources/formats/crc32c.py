"""CRC-32C (Castagnoli), as TFRecords carry it: of a few bytes, so a table and a loop do."""

POLYNOMIAL = 0x82F63B78
"""Bits reversed."""
MASK_ADDED = 0xA282EAD8


def _table() -> tuple[int, ...]:
    remainders = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        remainders.append(value)
    return tuple(remainders)


TABLE = _table()


def crc32c(content: bytes) -> int:
    """Of all of ``content``."""
    value = 0xFFFFFFFF
    for byte in content:
        value = TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def masked_crc32c(content: bytes) -> int:
    """Turned by 15 bits and moved, so that the sum of data that hold sums is not misleading."""
    value = crc32c(content)
    return ((value >> 15 | value << 17) + MASK_ADDED) & 0xFFFFFFFF
