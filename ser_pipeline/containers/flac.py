"""FLAC files that do not declare their length: the last frame reveals it.

Source: RFC 9639.
"""

from __future__ import annotations

from collections.abc import Iterator

from ser_pipeline.containers.pieces import LIE, MOST, BrokenOffError, Content, Piece, Section

LOOK = 1 << 21
"""Bytes before the end of a file within which its last frame begins."""


def flac(content: Content, start: int) -> Iterator[Section]:
    """The FLAC files from `start` on; a missing length is filled in."""
    marker = b"fLaC\x00\x00\x00\x22"
    while True:
        following = content.find(marker, start + 4)
        end = following if following >= 0 else len(content)
        total = int.from_bytes(content[start + 18 : start + 26], "big") & 0xFFFFFFFFF
        if total == 0:
            yield _measured_flac(content, start, end), "does not declare its length, and is read to its end"
        elif total > MOST * (end - start):
            yield _measured_flac(content, start, end), LIE.format(f"{total:,} samples")
        else:
            yield ((start, end),), ""
        if following < 0:
            return
        start = following


def _measured_flac(content: Content, start: int, end: int) -> tuple[Piece, ...]:
    """A FLAC file with its number of samples in its header, computed from the last frame."""
    info = bytearray(content[start + 8 : start + 42])
    tail = content[max(start + 42, end - LOOK) : end]
    block = int.from_bytes(info[2:4], "big")
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        total = _flac_frame(tail[place : place + 16], block)
        if total and _crc(tail[place:], 16, 0x8005) == 0:
            info[13] = info[13] & 0xF0 | total >> 32 & 15
            info[14:18] = (total & 0xFFFFFFFF).to_bytes(4, "big")
            return content[start : start + 8] + bytes(info), (start + 42, end)
    raise BrokenOffError("it does not declare its length, and its last frame is incomplete")


def _flac_frame(head: bytes, block: int) -> int:
    """Samples up to the end of the FLAC frame that `head` begins; 0 if it does not begin a frame.

    Args:
        head: the first 16 bytes.
        block: samples of every frame except the last, if all have the same number.
    """
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[3] & 1:
        return 0
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # length of the number, which is coded like a UTF-8 character
    length = max(1, ones)
    size, rate = head[2] >> 4, head[2] & 15
    place = 4 + length
    more = {6: 1, 7: 2}.get(size, 0)
    after = place + more + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if ones == 1 or size == 0 or rate == 15 or after >= len(head) or _crc(head[:after], 8, 0x07) != head[after]:
        return 0
    number = head[4] & (0x7F >> ones if ones else 0x7F)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    if more:
        samples = int.from_bytes(head[place : place + more], "big") + 1
    else:
        samples = 192 if size == 1 else 576 << size - 2 if size < 6 else 256 << size - 8
    return (number if head[1] & 1 else number * block) + samples


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """Cyclic redundancy check, most significant bit first, from 0."""
    table = _CRC_TABLES.setdefault((bits, polynomial), _crc_table(bits, polynomial))
    value, mask, shift = 0, (1 << bits) - 1, bits - 8
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> shift ^ byte]
    return value


def _crc_table(bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> bits - 1 & 1 else 0)
            value &= (1 << bits) - 1
        table.append(value)
    return table


_CRC_TABLES: dict[tuple[int, int], list[int]] = {}
