"""The chain hash that ties each ledger event to the one before it.

A hole, a flipped bit or a rewritten past shows on every replay, on any node. The hash is the ninth
element of the stored array and covers the bytes before it, so checking needs no re-encoding:

    chain(n) = BLAKE2b-128(chain(n-1) + stored(n) without its last 18 bytes)
"""

from hashlib import blake2b

from tabard.events.errors import ChainError

GENESIS = bytes(16)
"""The chain before the first event."""
_BIN8_16 = b"\xc4\x10"  # msgpack: bin 8, 16 bytes
_ARRAY_8, _ARRAY_9 = b"\x98", b"\x99"  # msgpack: fixarray of 8 and of 9
_TAIL = len(_BIN8_16) + 16


def link(previous: bytes, event: bytes) -> tuple[bytes, bytes]:
    """Add the chain to an encoded event of eight elements.

    Returns (bytes to store, the new chain hash).
    """
    assert event[:1] == _ARRAY_8, "an event is encoded as an array of eight elements"
    body = _ARRAY_9 + event[1:]
    hashed = blake2b(previous + body, digest_size=16).digest()
    return body + _BIN8_16 + hashed, hashed


def chain_of(stored: bytes) -> bytes | None:
    """The chain hash that a stored event claims, or None if it carries none."""
    if stored[:1] != _ARRAY_9 or len(stored) <= _TAIL or stored[-_TAIL:-16] != _BIN8_16:
        return None
    return stored[-16:]


def follow(previous: bytes, stored: bytes, place: str) -> bytes:
    """Check that `stored` follows `previous`; its chain hash, or ChainError naming `place`."""
    claimed = chain_of(stored)
    if claimed is None:
        raise ChainError(f"{place}: the event carries no chain hash")
    if blake2b(previous + stored[:-_TAIL], digest_size=16).digest() != claimed:
        raise ChainError(
            f"{place}: the chain hash does not follow from the event before it; the event or its "
            "past was changed, or an event is missing (see `tabard events verify`)"
        )
    return claimed
