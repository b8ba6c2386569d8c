"""Decodes PNG as its specification (W3C, third edition) says, so that no writer's library judges its own files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True)
class Picture:
    """``pixels``: as many bytes for each as it has channels, row after row."""

    width: int
    height: int
    channels: int
    pixels: bytes

    @property
    def colours(self) -> dict[bytes, int]:
        """How many pixels have which colour."""
        counts: dict[bytes, int] = {}
        for start in range(0, len(self.pixels), self.channels):
            colour = self.pixels[start : start + self.channels]
            counts[colour] = counts.get(colour, 0) + 1
        return counts


def decode(content: bytes) -> Picture:
    """Decode a picture of eight bits a channel that is not interlaced."""
    assert content.startswith(_SIGNATURE)
    chunks = list(_chunks(content[len(_SIGNATURE) :]))
    assert chunks[0][0] == b"IHDR"
    assert chunks[-1] == (b"IEND", b"")
    width, height, depth, kind, compression, filtering, interlace = struct.unpack(">IIBBBBB", chunks[0][1])
    assert (depth, compression, filtering, interlace) == (8, 0, 0, 0)
    channels = _CHANNELS[kind]
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    stride = width * channels
    assert len(data) == height * (stride + 1)
    above = bytearray(stride)
    pixels = bytearray()
    for start in range(0, len(data), stride + 1):
        above = _unfilter(data[start], bytearray(data[start + 1 : start + 1 + stride]), above, channels)
        pixels += above
    if kind != 3:
        return Picture(width, height, channels, bytes(pixels))
    palette = next(body for name, body in chunks if name == b"PLTE")
    return Picture(width, height, 3, b"".join(palette[3 * index : 3 * index + 3] for index in pixels))


def _chunks(rest: bytes) -> Iterator[tuple[bytes, bytes]]:
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        name, body, check = rest[4:8], rest[8 : 8 + length], rest[8 + length : 12 + length]
        assert struct.unpack(">I", check)[0] == zlib.crc32(name + body)
        yield name, body
        rest = rest[12 + length :]


def _unfilter(how: int, line: bytearray, above: bytearray, channels: int) -> bytearray:
    for place, value in enumerate(line):
        left = line[place - channels] if place >= channels else 0
        corner = above[place - channels] if place >= channels else 0
        line[place] = (value + _predicted(how, left, above[place], corner)) & 0xFF
    return line


def _predicted(how: int, left: int, up: int, corner: int) -> int:
    if how == 0:
        return 0
    if how == 1:
        return left
    if how == 2:
        return up
    if how == 3:
        return (left + up) // 2
    assert how == 4
    guess = left + up - corner
    return min((left, up, corner), key=lambda each: abs(guess - each))
