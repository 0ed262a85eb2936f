"""Lengths of MP3 files, found by walking through their frames.

An MP3 file has no header of its own. A decoder guesses its length from the first frame's bit rate, unless a Xing frame
at its beginning declares it; with a variable bit rate, the guess is off by tenths or more. Therefore a correct Xing
frame is prepended where there is none, and joined files are separated.

Source: frames, ISO 11172-3 and 13818-3; the Xing header, as LAME writes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ser_pipeline.containers.pieces import LIE, BrokenOffError, Content, Section

FOREWORD = 1 << 16
"""Bytes within which the first frame of an MP3 file begins."""

KILOBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates of frames in kbit/s by MPEG version and layer, from index 1 on; version 2 layer III uses those of II."""

RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates in Hz by the two version bits: MPEG 1, 2, 2.5."""

ROOMY = 9  # index of a bit rate whose frames have room for a Xing header at every sample rate


@dataclass(frozen=True)
class Frame:
    """The content of the four header bytes of a frame."""

    length: int  # bytes, including the four of the header
    kind: tuple[int, int, int]  # the bits of its version and layer, and Hz: constant within a recording
    xing: int  # offset in bytes at which a Xing header would be


@dataclass(frozen=True)
class Stretch:
    """Frames that belong to one recording."""

    start: int  # offset in bytes
    sound: int  # offset of the first frame without a Xing header
    end: int
    frames: int  # without the frame of the Xing header
    announced: int | None  # number of frames in the Xing header
    cut: bool  # whether its last frame is incomplete
    layer: int


def mp3(content: Content, start: int) -> Iterator[Section]:
    """The recordings of an MP3 file from `start` on; those without a correct Xing header get one."""
    for part in stretches(content, start):
        true = part.announced in (part.frames, part.frames + 1)
        if part.layer < 3 or true:
            yield ((part.start, part.end),), _odd(part)
        elif part.frames > 0:
            yield (xing_frame(content, part.start, part.frames), (part.sound, part.end)), _odd(part)


def _odd(part: Stretch) -> str:
    """Describe what is irregular about a stretch, or return "".

    Raises:
        BrokenOffError: it declares more frames than there are.
    """
    announced = part.announced or 0
    if announced > part.end - part.start:
        return LIE.format(f"{announced:,} frames")
    if announced > part.frames + 1:
        raise BrokenOffError(f"{part.frames} of {announced} frames are there")
    if 0 < announced < part.frames:
        return f"has a header that declares {announced} of its {part.frames} frames, all of which are read"
    return "breaks off in its last frame" if part.cut else ""


def frame_at(content: Content, place: int) -> Frame | None:
    """The frame of MPEG audio that begins at `place`, if there is one."""
    head = content[place : place + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    index, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or index in (0, 15) or rate == 3:
        return None
    generation = 1 if version == 3 else 2
    bits = 1000 * KILOBITS[generation, min(layer, 2 if generation == 2 else 3)][index - 1]
    hertz, padding = RATES[version][rate], head[2] >> 1 & 1
    if layer == 1:
        length = (12 * bits // hertz + padding) * 4
    else:
        length = (144 if layer == 2 or generation == 1 else 72) * bits // hertz + padding
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if generation == 1 else (9 if mono else 17)
    return Frame(length, (version, layer, hertz), 4 + side)


def first_frame(content: Content, start: int) -> int:
    """Offset of the first frame from `start` on that is followed by one of its kind; the end if there is none."""
    place = start
    while (place := content.find(b"\xff", place)) >= 0:
        frame = frame_at(content, place)
        following = frame and frame_at(content, place + frame.length)
        if frame and (place + frame.length == len(content) or (following and following.kind == frame.kind)):
            return place
        place += 1
    return len(content)


def stretches(content: Content, start: int) -> Iterator[Stretch]:
    """The recordings of an MP3 file from `start` on; a tag, a Xing header or another sample rate begins a new one."""
    place = first_frame(content, start)
    while place < len(content):
        stretch = _stretch(content, place)
        yield stretch
        place = first_frame(content, stretch.end)


def _stretch(content: Content, start: int) -> Stretch:
    first = frame_at(content, start)
    assert first is not None, start
    announced = _announced(content, start, first)
    sound = start if announced is None else start + first.length
    place, count = sound, 0
    while True:
        frame = frame_at(content, place)
        if frame is None:
            after = _after_damage(content, place)
            if after == place:
                break
            place = after
        elif frame.kind != first.kind or (place > sound and _announced(content, place, frame) is not None):
            break
        elif place + frame.length > len(content):
            return Stretch(start, sound, len(content), count, announced, True, first.kind[1])
        else:
            place, count = place + frame.length, count + 1
    return Stretch(start, sound, place, count, announced, False, first.kind[1])


def _after_damage(content: Content, place: int) -> int:
    """Offset at which frames resume after other bytes; `place` itself if there is a tag or the end of the file."""
    if content[place : place + 3] in (b"TAG", b"ID3", b"APE", b"") or content[place : place + 1] == b"":
        return place
    after = first_frame(content, place)
    tag = min((at for at in (content.find(b"ID3", place, after),) if at >= 0), default=after)
    return place if tag < after or after == len(content) else after


def _announced(content: Content, place: int, frame: Frame) -> int | None:
    """Number of frames in the Xing header of `frame`; None if there is no header, 0 if it has no number."""
    head = content[place + frame.xing : place + frame.xing + 12]
    if len(head) < 12 or head[:4] not in (b"Xing", b"Info"):
        return None
    return int.from_bytes(head[8:], "big") if head[7] & 1 else 0


def xing_frame(content: Content, start: int, frames: int) -> bytes:
    """A silent frame of the same kind as that at `start`, with a Xing header that declares `frames` following frames.

    Args:
        content: the file.
        start: offset of the recording's first frame.
        frames: number of following frames.
    """
    head = bytearray(content[start : start + 4])
    head[1] |= 1  # without a checksum
    head[2] = ROOMY << 4 | head[2] & 0b1100
    frame = frame_at(bytes(head), 0)
    assert frame is not None, head
    whole = bytearray(head) + bytes(frame.length - 4)
    whole[frame.xing : frame.xing + 12] = b"Xing" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return bytes(whole)
