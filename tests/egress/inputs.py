# ruff: noqa: RUF001 - characters that look like others are the point
"""Hostile inputs for the parsers: each is grown from a grammar, then mutated with or without respect for it.

Everything comes from one ``random.Random``, so that a seed gives the same inputs again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

# Text: hosts, authorities, requests ------------------------------------------------------------------------------------

NAMES: Final = (
    "github.com", "api.github.com", "evilgithub.com", "github.com.evil.test", "localhost", "a", "_dmarc.example.org",
    "r3---sn-4g5e.example.com", "xn--bcher-kva.example", "xn--mgbh0fb.xn--kgbechtv", "xn--a", "xn--", "bücher.example",
    "ＧＩＴＨＵＢ.com", "github。com", "straße.de", "مثال.إختبار", "exa\u00admple.com", "ﬁle.com", "K.com", "xn--github-.com",
    "a" * 63 + ".com", "a" * 64 + ".com", ".".join(["abc"] * 63), "GitHub.COM", "github.com.", "github.com..",
)  # fmt: skip
ADDRESSES: Final = (
    "127.0.0.1", "127.1", "0x7f.1", "0177.0.0.01", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518",
    "0", "0x", "1.2.3.0x", "08.8.8.8", "8.8.8.8", "4294967295", "4294967296", "1.2.3.4.5", "1.16777216", "１２７.0.0.1",
    "[::1]", "::1", "[::ffff:a9fe:a9fe]", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]",
    "[fe80::1%eth0]", "[2606:4700::1111]", "[::]", "[1:2:3:4:5:6:7:8]", "[::1", "::1]", "[::ffff:01.2.3.4]", "[v1.x]",
)  # fmt: skip
PORTS: Final = (
    "443",
    "80",
    "0",
    "1",
    "65535",
    "65536",
    "+443",
    "0443",
    "443 ",
    " 443",
    "",
    "４４３",
    "4_4",
    "-1",
    "1e3",
)
PATHS: Final = (
    "/", "/api/", "/api/items", "/api", "/apix", "/repos/gaoler", "/repos/gaoler/x?y=/../z", "/api/../x", "/api/%2e%2e/x",
    "/api/..;/x", "/api/..%3b/x", "/api/%c0%ae%c0%ae/x", "/api/..%20/x", "/api/%2", "/api//x", "/api/x%2fy", "/api\\..\\x",
    "/api/%252e%252e/x", "/api/x#f", "/api/%u002e", "*", "?q", "", "//evil.test/api/", "/api/;/../x", "/api/a%00/../../x",
    "/api/.%2e/x", "/api/...", "/api/x;a=b/y", "/api/%3f/../x", "/api/~x/-_.!", "/api/%E2%82%AC",
)  # fmt: skip
METHODS: Final = ("GET", "POST", "OPTIONS", "TRACE", "get", "CONNECT", "G ET", "PATCH", "", "GET\r\nX: y", "A" * 33)
TOKENS: Final = (
    ".", "..", ":", "/", "//", "\\", "@", "#", "?", "%", "%2e", "%2F", "%00", "%5c", "%25", ";", "[", "]", "\0", "\r\n", "\n",
    "\t", " ", "\x7f", "\x85", "\xa0", "\u3002", "\uff0e", "\uff61", "\u2024", "\uff0f", "\u200b", "\u200d", "\u00ad",
    "\u0301", "\u0130", "\u212a", "\ufeff", "\U000e0001", "-", "--", "_", "xn--", "*", "*.", "0x", "user:pw@", "http://",
    "HTTP://", "https://", "::", "+", "0", "٣", "é", "ß", "ς", "א", "1", "\ud800", "|", "<", '"', "^", "`", "{", "~", "$", "&", "=",
)  # fmt: skip


BETWEEN: Final = "\x1e"
"""Stands between the parts of a request, so that any of them can hold spaces and line ends."""


def mix(rng: Random, texts: Sequence[str]) -> str:
    return rng.choice(texts)


def grow_host(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.35:
        return mix(rng, NAMES)
    if kind < 0.6:
        return mix(rng, ADDRESSES)
    if kind < 0.75:
        return _number_host(rng)
    if kind < 0.85:
        return _colons(rng)
    if kind < 0.92:
        return ".".join(_punycode_label(rng) for _ in range(rng.randint(1, 3)))
    return ".".join(_label(rng) for _ in range(rng.randint(1, 5))) + mix(rng, ("", "", ".", ".."))


def _label(rng: Random) -> str:
    letters = "abcxyzABC0189-_éßאم中ａ"
    return "".join(rng.choice(letters) for _ in range(rng.choice((0, 1, 2, 5, 8, 62, 63, 64))))


def _punycode_label(rng: Random) -> str:
    """What decodes to anything; the encoder is asked half of the time."""
    if rng.random() < 0.5:
        return "xn--" + "".join(rng.choice("abcdkzq0189-") for _ in range(rng.randint(0, 10)))
    text = "".join(
        chr(rng.choice((0x61, 0xE4, 0xDF, 0x3C2, 0x5D0, 0x627, 0x660, 0x4E2D, 0x301, 0x41))) for _ in range(4)
    )
    return f"xn--{text.encode('punycode').decode('ascii')}"


def _number_host(rng: Random) -> str:
    """Numbers in all bases around all limits."""
    limits = (0, 1, 7, 8, 9, 127, 255, 256, 65535, 65536, 2**24 - 1, 2**24, 2**32 - 1, 2**32)
    forms: tuple[Callable[[int], str], ...] = (str, hex, lambda n: f"0{n:o}", lambda n: f"0X{n:X}", lambda n: f"0{n}")
    return ".".join(rng.choice(forms)(rng.choice(limits)) for _ in range(rng.randint(1, 5)))


def _colons(rng: Random) -> str:
    pieces = ("0", "1", "ffff", "a9fe", "FE80", "12345", "127.0.0.1", "010.1.1.1", "%1", "g")
    groups = [mix(rng, (*pieces, "")) for _ in range(rng.randint(2, 9))]
    text = ":".join(groups)
    return f"[{text}]" if rng.random() < 0.7 else text


def grow_connect(rng: Random) -> bytes:
    port = mix(rng, PORTS) if rng.random() < 0.2 else str(rng.randint(1, 65535))
    return encode(f"{grow_host(rng)}:{port}")


def grow_http(rng: Random) -> bytes:
    """Method, target, and the Host field."""
    host = grow_host(rng) if rng.random() < 0.4 else "github.com"
    port = mix(rng, ("", "", "", "", "", ":80", ":8080", ":", ":0", ":080"))
    path = mix(rng, PATHS) if rng.random() < 0.6 else _path(rng)
    form = mix(
        rng, ("http://{}{}{}", "http://{}{}{}", "{2}", "HTTP://{}{}{}", "https://{}{}{}", "http:/{}{}{}", "//{}{}{}")
    )
    method = mix(rng, METHODS) if rng.random() < 0.15 else "GET"
    shown = host if host.isascii() or rng.random() < 0.5 else "example.com"
    return encode(BETWEEN.join((method, form.format(shown, port, path), host + port)))


def _path(rng: Random) -> str:
    segments = (
        "api",
        "repos",
        "gaoler",
        "x",
        ".",
        "..",
        "...",
        "%2e",
        "%2E.",
        "..\\x",
        "\\..",
        "..;a",
        "%3b",
        ";",
        "%c0%ae",
        "%c0%af",
        "%5C",
    )
    parts = [mix(rng, segments) for _ in range(rng.randint(0, 5))]
    return mix(rng, ("/api/", "/repos/gaoler/", "/")) + "/".join(parts)


def grow_name(rng: Random) -> bytes:
    return encode(grow_host(rng))


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """Lone surrogates stay: JSON can carry them."""
    return data.decode("utf-8", "surrogatepass") if _is_wtf8(data) else data.decode("latin-1")


def _is_wtf8(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def rework_text(data: bytes, rng: Random) -> bytes:
    """Exchange, repeat, drop or respell a piece between delimiters."""
    pieces = re.split(r"([.:/@%;?\[\]\x1e ])", decode(data))
    at = rng.randrange(len(pieces))
    piece = pieces[at]
    pieces[at] = rng.choice(
        (
            piece * 2,
            "",
            piece.swapcase(),
            piece + mix(rng, TOKENS),
            mix(rng, TOKENS) + piece,
            "".join(f"%{ord(c) & 255:02x}" for c in piece),
            "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in piece),
            mix(rng, TOKENS),
        )
    )
    return encode("".join(pieces))


# ClientHello ---------------------------------------------------------------------------------------------------------


def vector(width: int, data: bytes) -> bytes:
    return (len(data) % (1 << 8 * width)).to_bytes(width, "big") + data


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(2, content)


def server_name(*names: bytes) -> bytes:
    return vector(2, b"".join(b"\0" + vector(2, name) for name in names))


def hello_body(
    extensions: Sequence[bytes] | None,
    *,
    version: bytes = b"\3\3",
    session: bytes = b"",
    suites: bytes = b"\x13\x01",
    methods: bytes = b"\0",
) -> bytes:
    end = b"" if extensions is None else vector(2, b"".join(extensions))
    return version + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, methods) + end


def message_of(body: bytes, kind: int = 1) -> bytes:
    return bytes([kind]) + vector(3, body)


def record(fragment: bytes, kind: int = 22, version: bytes = b"\3\1") -> bytes:
    return bytes([kind]) + version + vector(2, fragment)


def in_records(message: bytes, sizes: Sequence[int]) -> bytes:
    """Cut a message into records of these sizes; the last one takes the rest."""
    stream, at = b"", 0
    for size in sizes:
        if at + size >= len(message):
            break
        stream += record(message[at : at + size])
        at += size
    return stream + record(message[at:])


def seldom(rng: Random, usual: bytes, *odd: bytes) -> bytes:
    return rng.choice(odd) if rng.random() < 0.06 else usual


def grow_hello(rng: Random) -> bytes:
    body = hello_body(
        _extensions(rng) if rng.random() > 0.05 else None,
        version=seldom(rng, b"\3\3", b"\3\1", b"\3\0", b"\2\0", b"\xfe\xfd"),
        session=bytes(rng.choice((0, 32, 32, 1)) if rng.random() > 0.05 else rng.choice((33, 255))),
        suites=seldom(rng, b"\x13\x01\xc0\x2f", b"", b"\x13", b"\x13\x01\xc0", bytes(600)),
        methods=seldom(rng, b"\0", b"", b"\1", b"\1\0"),
    )
    message = message_of(body + seldom(rng, b"", b"\0", b"\0\0"), kind=1 if rng.random() > 0.03 else 2)
    sizes = [rng.choice((1, 2, 3, 5, 40, 100)) for _ in range(rng.choice((0, 0, 1, 3, 70)))]
    if rng.random() < 0.03:
        sizes.insert(rng.randint(0, len(sizes)), 0)
    return in_records(message, sizes) + seldom(rng, b"", b"\x16", b"\x14\3\3\0\1\1", record(message), bytes(9))


def _extensions(rng: Random) -> list[bytes]:
    made = [_extension(rng) for _ in range(rng.randint(0, 4))]
    if rng.random() < 0.8:
        made.insert(rng.randint(0, len(made)), extension(0, _sni(rng)))
    if rng.random() < 0.05:
        made.append(rng.choice((b"\0", b"\0\0\0", b"\0\x10\0\xff", extension(41, bytes(9)))))
    return made


def _extension(rng: Random) -> bytes:
    kind = rng.choice(
        (5, 10, 11, 13, 16, 21, 23, 35, 41, 43, 45, 51, 0xFE0D, 0xFFCE, 0xFF01, 0x0A0A, rng.randrange(65536))
    )
    return extension(kind, rng.randbytes(rng.choice((0, 1, 2, 20, 200))))


def _sni(rng: Random) -> bytes:
    name = seldom(
        rng, b"github.com", b"", b"a", b"github.com.", b"git\0hub", b"\xff", b"1.2.3.4", "bücher".encode(), bytes(300)
    )
    return seldom(
        rng,
        server_name(name),
        server_name(name, b"other.example"),
        b"",
        b"\0\0",
        server_name(name) + b"\0",
        vector(2, b"\1" + vector(2, name)),
        server_name(name)[:-1],
    )


def rework_hello(data: bytes, rng: Random) -> bytes:
    """Mutate the message behind its records, put its length right, and cut it into records again."""
    message, rest = b"", data
    while len(rest) > 5:
        size = int.from_bytes(rest[3:5], "big")
        message, rest = message + rest[5 : 5 + size], rest[5 + size :]
    body = rework_bytes(message[4:], rng)
    sizes = [rng.randint(1, 60) for _ in range(rng.choice((0, 0, 2, 5)))]
    return in_records(message_of(body), sizes)


# DNS -----------------------------------------------------------------------------------------------------------------


def dns_name(*labels: bytes) -> bytes:
    return b"".join(vector(1, label) for label in labels) + b"\0"


def opt(options: bytes = b"", *, name: bytes = b"\0", kind: int = 41, version: int = 0) -> bytes:
    return name + struct.pack(">HHBBH", kind, 1232, 0, version, 0) + vector(2, options)


def query(
    name: bytes, *, flags: int = 0x0100, counts: Sequence[int] = (1, 0, 0, 0), kind: int = 1, family: int = 1
) -> bytes:
    return struct.pack(">HHHHHH", 7, flags, *counts) + name + struct.pack(">HH", kind, family)


def grow_dns(rng: Random) -> bytes:
    usual = rng.random()
    name = _dns_name(rng)
    flags = (
        0x0100
        if usual < 0.7
        else rng.choice((0, 0x0120, 0x0110, 0x8100, 0x2800, 0x0200, 0x0140, 0x010F, rng.randrange(65536)))
    )
    ending = rng.choice((b"", opt(), opt(), opt(_options(rng)), opt(_options(rng))))
    if rng.random() < 0.08:
        ending = rng.choice(
            (opt(version=1), opt(name=b"\xc0\x0c"), opt(kind=1), opt()[:-1], opt() + opt(), b"\0", opt(kind=250))
        )
    counts = (1, 0, 0, int(bool(ending)))
    if rng.random() < 0.06:
        counts = rng.choice(((0, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 2), (65535, 0, 0, 0)))
    kind = rng.choice((1, 1, 28, 16, 255, 65, 41, 252, 250, rng.randrange(65536)))
    return (
        query(name, flags=flags, counts=counts, kind=kind, family=1 if rng.random() > 0.04 else rng.choice((3, 255, 0)))
        + ending
    )


_USUAL_LABELS: Final = (b"github", b"GiThUb", b"api", b"a", b"a" * 63, b"xn--bcher-kva", b"1", b"b" * 62)
_ODD_LABELS: Final = (b"\0", b"a.b", b"\xff", b"*", b"[::1]", b"a b", b"\\", b"@")


def _dns_name(rng: Random) -> bytes:
    labels = [
        rng.choice(_USUAL_LABELS if rng.random() < 0.95 else _ODD_LABELS) for _ in range(rng.choice((0, 1, 1, 2, 3, 4)))
    ]
    name = dns_name(*labels, b"com")
    if rng.random() < 0.04:
        name = dns_name(b"a" * 63, b"b" * 63, b"c" * 63, b"d" * rng.randint(59, 63))
    return seldom(rng, name, name[:-1] + b"\xc0\x0c", b"\xc0\x0c", b"\x40" + name, b"\x80abc\0", b"\0", name[:-2])


def _options(rng: Random) -> bytes:
    """Cookies, client subnets, padding, extended errors, key tags; well-formed and not."""
    made = b""
    for _ in range(rng.randint(0, 3)):
        content = rng.choice(
            (b"", bytes(8), b"\0\1\x18\0\1\2\3", b"\0\2\x81\0", b"\0\x12\xc3", rng.randbytes(rng.randint(0, 12)))
        )
        made += (
            struct.pack(">HH", rng.choice((3, 8, 10, 12, 15, 18, 65001, rng.randrange(65536))), len(content)) + content
        )
    return made + seldom(rng, b"", b"\0", b"\0\x0a\0\x08\1", b"\0\x0a\xff\xff")


def rework_dns(data: bytes, rng: Random) -> bytes:
    """Mutate one section and leave the others what they are."""
    end = data.find(b"\0", 12) + 5
    sections = [data[:12], data[12:end], data[end:]]
    at = rng.choice((0, 1, 1, 2, 2))
    sections[at] = rework_bytes(sections[at], rng)
    return b"".join(sections)


# All -----------------------------------------------------------------------------------------------------------------

_BYTES: Final = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b".",
    b":",
    b"\0\0",
    b"\xff\xff",
    b"\0\1",
    b"\xc0\x0c",
    b"\x16\3\1",
    b"\xfe\x0d",
)


def rework_bytes(data: bytes, rng: Random) -> bytes:
    """Without any respect for a grammar."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = _mutated(data, rng)
    return data


def _mutated(data: bytes, rng: Random) -> bytes:
    at, kind = rng.randint(0, len(data)), rng.randrange(6)
    end = min(len(data), at + rng.choice((1, 1, 2, 4, 16)))
    if kind == 0:
        return data[:at] + data[end:]
    if kind == 1:
        return data[:at] + rng.choice(_BYTES) + data[at:]
    if kind == 2:
        return data[:end] + data[at:end] + data[end:]
    if kind == 3:
        return data[:at]
    changed = rng.randbytes(1) if kind == 4 or not data[at:] else bytes([data[at] ^ 1 << rng.randrange(8)])
    return data[:at] + changed + data[at + 1 :]


GROW: Final[dict[str, Callable[[Random], bytes]]] = {
    "connect": grow_connect,
    "http": grow_http,
    "hello": grow_hello,
    "dns": grow_dns,
    "name": grow_name,
}
REWORK: Final[dict[str, Callable[[bytes, Random], bytes]]] = {
    "connect": rework_text,
    "http": rework_text,
    "hello": rework_hello,
    "dns": rework_dns,
    "name": rework_text,
}


def fresh(target: str, rng: Random) -> bytes:
    """A quarter as grown, half changed within the grammar, a quarter in any way."""
    data = GROW[target](rng)
    kind = rng.random()
    if kind < 0.25:
        return data
    return REWORK[target](data, rng) if kind < 0.75 else rework_bytes(data, rng)


def mutated(target: str, data: bytes, rng: Random) -> bytes:
    """Change an input that a coverage-guided engine found worth keeping; now and then begin anew."""
    if rng.random() < 0.25:
        return fresh(target, rng)
    return REWORK[target](data, rng)
