"""Inputs made from inputs: bytes that are bent anyhow, and values that are bent as values.

What is bent as a value gets further into a parser than what no longer is one. All chance comes from
the `Random` that is given.
"""

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

import msgpack

BYTES_MAX = 1 << 16
"""No input grows beyond this."""
PARTS_MAX = 20_000
"""Nor has a bent value more parts than this."""
NUMBERS = (0, 1, -1, 2, 32, 64, 127, 128, 255, 256, 65_535, 65_536, 1 << 24, (1 << 31) - 1, 1 << 31)
NUMBERS += (1 << 32, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63), 1 << 63, (1 << 64) - 1, 10**12)
TEXTS = ("", " ", "\0", "\n", ".", "..", "/", "-", "*", "**", "=", "a" * 64, "a" * 254, "x" * 5000)
TEXTS += ("\u00e9", "\U0001f600", "\u202e", "\ud800", "0", "-1", "1e9", "NaN", "None", "true", "²")
TEXTS += (
    "10.0.0.0/8",
    "10.0.0.1/8",
    "0.0.0.0/0",
    "::/0",
    "10.1.2.3",
    "10.1.2.256",
    "::1",
    "fd00::1",
)
TEXTS += ("::ffff:10.1.2.3", "fe80::1%eth0", "1.2.3.4/33", "::/129", "224.0.0.1", "kubernetes.io/x")
TEXTS += (
    "k8s:app=web",
    "reserved:host",
    "cidr:10.0.0.0/8",
    "port:http=80/TCP",
    "any:",
    "app",
    "TCP",
)
TEXTS += ("(a+)+$", "[", "(?P<x>", "\\", "2026-11-27T03:12:00Z", "9" * 5000, "matchLabels", "shop")

Values = Sequence[Any]


@dataclass(frozen=True)
class Form:
    """What kind of thing an input is. A value that cannot be written gives no input."""

    tokens: tuple[bytes, ...] = ()
    """What the parser looks for; put in anywhere."""
    read: Callable[[bytes], Any] | None = None
    """Raises ValueError for what is no value."""
    write: Callable[[Any], bytes] | None = None

    def bent(self, random: Random, data: bytes, other: bytes) -> bytes:
        """Another input, from `data` and something of the `other`."""
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            as_value = self.read is not None and random.random() < 0.8
            found = self._bent_value(random, data, other) if as_value else None
            data = found if found is not None else self._bent_bytes(random, data, other)
        return data[:BYTES_MAX]

    def smaller(self, data: bytes) -> Iterator[bytes]:
        """Inputs with a part missing, larger parts first."""
        if self.read is not None and self.write is not None:
            with suppress(ValueError):
                for value in _smaller(self.read(data)):
                    with suppress(ValueError):
                        yield self.write(value)
        size = len(data) // 2
        while size:
            for at in range(0, len(data), size):
                yield data[:at] + data[at + size :]
            size //= 2

    def _bent_value(self, random: Random, data: bytes, other: bytes) -> bytes | None:
        assert self.read is not None and self.write is not None  # noqa: PT018
        try:
            pool = list(islice(_parts(self.read(other)), 1000))
        except ValueError:
            pool = []
        try:
            value = _bent(random, self.read(data), pool)
            return self.write(value) if _is_small(value) else None
        except ValueError:
            return None

    def _bent_bytes(self, random: Random, data: bytes, other: bytes) -> bytes:
        at = random.randrange(len(data) + 1)
        size = min(random.choice((1, 1, 2, 4, 8, 64)), len(data) - at)
        match random.randrange(10):
            case 0:
                return data[:at]
            case 1:
                return data[:at] + data[at + size :]
            case 2:
                return data[:at] + data[at : at + size] * random.choice((2, 3, 40)) + data[at:]
            case 3:
                return data[:at] + random.randbytes(size) + data[at + size :]
            case 4 if self.tokens:
                return data[:at] + random.choice(self.tokens) + data[at + size :]
            case 5 if self.tokens:
                many = random.choice((1, 2, 100, 2000))
                return data[:at] + random.choice(self.tokens) * many + data[at:]
            case 6:
                there = random.randrange(len(other) + 1)
                return data[:at] + other[there : there + random.choice((4, 16, 256))] + data[at:]
            case 7:
                number = random.choice(NUMBERS) & ((1 << 64) - 1)
                packed = struct.pack("!Q", number)[-random.choice((1, 2, 4, 8)) :]
                return data[:at] + packed + data[at + len(packed) :]
            case 8:
                text = random.choice(TEXTS).encode(errors="surrogatepass")
                return data[:at] + text + data[at + size :]
            case _:
                if at == len(data):
                    return data + random.randbytes(1)
                return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _bent(random: Random, value: Any, pool: Values) -> Any:
    """`value` with one of its parts another."""
    inside = isinstance(value, dict | list | tuple) and value
    if inside and random.random() < 0.85:
        if isinstance(value, dict):
            return _bent_map(random, value, pool)
        return _bent_list(random, list(value), pool)
    return _other(random, value, pool)


def _bent_map(random: Random, value: dict[Any, Any], pool: Values) -> dict[Any, Any]:
    key = random.choice(list(value))
    match random.randrange(12):
        case 0:
            return {name: part for name, part in value.items() if name != key}
        case 1:
            other = _other(random, key, pool)
            name = other if isinstance(other, str | int | bytes | None) else str(other)
            return {**value, name: value[key]}
        case 2:
            return {**value, **{f"{key}{n}": value[key] for n in range(random.choice((1, 300)))}}
        case _:
            return {**value, key: _bent(random, value[key], pool)}


def _bent_list(random: Random, value: list[Any], pool: Values) -> list[Any]:
    at = random.randrange(len(value))
    match random.randrange(14):
        case 0:
            return value[:at] + value[at + 1 :]
        case 1:
            return value[:at] + [value[at]] * random.choice((2, 2, 2, 70, 1100)) + value[at + 1 :]
        case 2:
            there = random.randrange(len(value))
            value[at], value[there] = value[there], value[at]
            return value
        case 3:
            return [*value[:at], _other(random, value[at], pool), *value[at:]]
        case _:
            return [*value[:at], _bent(random, value[at], pool), *value[at + 1 :]]


def _other(random: Random, value: Any, pool: Values) -> Any:
    match random.randrange(10):
        case 0 | 1 if pool:
            return random.choice(pool)
        case 2:
            return random.choice((None, True, False, 1.5, float("nan"), float("inf"), -0.0))
        case 3:
            return random.choice(((), {}, [[]], [None], {"": {}}, b"", bytes(16)))
        case 4:
            return _nested(value, random.choice((1, 2, 60, 400)), random.random() < 0.5)
    match value:
        case bool():
            return not value
        case int():
            return random.choice((random.choice(NUMBERS), value + 1, value - 1, -value))
        case str() if value and random.random() < 0.5:
            at = random.randrange(len(value))
            return value[:at] + random.choice(TEXTS)[:300] + value[at + random.randrange(2) :]
        case bytes() if value and random.random() < 0.8:
            return BYTES.bent(random, value, value)
        case bytes() if value:
            return random.choice((value[:-1], value + b"\0", bytes(len(value)), value * 2))
    return random.choice((random.choice(TEXTS), random.choice(NUMBERS)))


def _nested(value: Any, depth: int, in_maps: bool) -> Any:
    for _ in range(depth):
        value = {"matchLabels": value} if in_maps else [value]
    return value


def _is_small(value: Any) -> bool:
    """Parts that stand in many places are counted in each."""
    return next(islice(_parts(value), PARTS_MAX, None), None) is None


def _parts(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value


def _smaller(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key in value:
            yield {name: part for name, part in value.items() if name != key}
        for key, part in value.items():
            for less in _smaller(part):
                yield {**value, key: less}
    elif isinstance(value, list | tuple):
        size = len(value)
        while size:
            for at in range(0, len(value), size):
                yield [*value[:at], *value[at + size :]]
            size //= 2
        for at, part in enumerate(value):
            for less in _smaller(part):
                yield [*value[:at], less, *value[at + 1 :]]
    elif isinstance(value, str | bytes) and len(value) > 1:
        yield value[: len(value) // 2]
        yield value[len(value) // 2 :]


def read_msgpack(data: bytes) -> Any:
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except Exception as error:  # msgpack raises many unrelated types on bad bytes
        raise ValueError(str(error)) from error


def write_msgpack(value: Any) -> bytes:
    try:
        packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    except (OverflowError, TypeError) as error:
        raise ValueError(str(error)) from error
    return packed


def _read_messages(data: bytes) -> list[Any]:
    try:
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(data)
        return list(unpacker)
    except Exception as error:  # as above
        raise ValueError(str(error)) from error


def _write_messages(value: Any) -> bytes:
    if not isinstance(value, list | tuple):
        raise ValueError("no messages")  # noqa: TRY004
    return b"".join(map(write_msgpack, value))


def _read_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _write_json(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


_PACKED = (b"\x91", b"\x81", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc0", b"\xc1")
_PACKED += (
    b"\xd9\xff",
    b"\xdb\x7f\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xc7\xff\x01",
    b"\xd6\xff",
)
_JSON = (b"[", b"]", b"{", b"}", b'"', b":", b",", b"null", b"\\ud800", b"\\u0000", b"1e999")

BYTES = Form()
MSGPACK = Form(_PACKED, read_msgpack, write_msgpack)
MESSAGES = Form(_PACKED, _read_messages, _write_messages)
"""One msgpack value after the other."""
JSON = Form(_JSON, _read_json, _write_json)
_YAML = (b"---\n", b"- ", b"  ", b"\n", b"&a ", b"*a", b"<<: ", b"!!python/object:os ", b"!!int ")
_YAML += (
    b"!!binary ",
    b"? ",
    b"|\n",
    b"!!timestamp ",
    b"\t",
    b"\xef\xbb\xbf",
    b"!!set ",
    b"\xc2\x85",
)
YAML = Form((*_JSON, *_YAML), _read_json, _write_json)
"""JSON is YAML: seeds that are JSON are bent as values, others as text."""
