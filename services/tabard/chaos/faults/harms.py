"""How bytes are damaged: by one flipped bit, or by an end that is missing. Pure."""

from collections.abc import Callable
from random import Random

Harm = Callable[[bytes, Random], bytes]
"""Of one byte at least to others."""


def flipped(content: bytes, chance: Random) -> bytes:
    """The same but for one bit."""
    harmed = bytearray(content)
    harmed[chance.randrange(len(harmed))] ^= 1 << chance.randrange(8)
    return bytes(harmed)


def truncated(content: bytes, chance: Random) -> bytes:
    """A quarter to three quarters of it, from its beginning."""
    quarter = len(content) // 4
    return content[: chance.randint(quarter, 3 * quarter)]
