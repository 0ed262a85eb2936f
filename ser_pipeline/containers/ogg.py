"""Chained and truncated Ogg files.

Source: RFC 3533.
"""

from __future__ import annotations

from collections.abc import Iterator

from ser_pipeline.containers.pieces import BrokenOffError, Content, Section


def ogg(content: Content, start: int) -> Iterator[Section]:
    """The streams of a chained Ogg file; a stream begins with its first pages and ends before the next stream."""
    place, begun, flags = start, True, 0
    while content[place : place + 4] == b"OggS" and place + 27 <= len(content):
        flags, lacing = content[place + 5], content[place + 27 : place + 27 + content[place + 26]]
        if flags & 2 and not begun:
            yield ((start, place),), ""
            start = place
        begun = bool(flags & 2)
        end = place + 27 + content[place + 26] + sum(lacing)
        if end > len(content):
            raise BrokenOffError(f"its last page has {len(content) - place} of {end - place} bytes")
        place = end
    yield ((start, len(content)),), "" if flags & 4 else "has no end marker, and may have been longer"
