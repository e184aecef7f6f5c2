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
    """The checksum of ``content``, 32 bits."""
    value = 0xFFFFFFFF
    for byte in content:
        value = TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def masked_crc32c(content: bytes) -> int:
    """As TFRecords store it: rotated by 15 bits, plus a constant, since data may hold checksums themselves."""
    value = crc32c(content)
    return ((value >> 15 | value << 17) + MASK_ADDED) & 0xFFFFFFFF
