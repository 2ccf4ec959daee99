"""NKeys: the Ed25519 keys by which processes prove to nats-server who they are.

A seed is secret: it stays in a file that only its user can read, is never shown, and never leaves
its process, for what the server gets is a signature of its nonce. A public key is no secret.

nkeys is imported where it is used: it takes a megabyte, which most processes need not have.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

SEED_BYTES_MAX = 1024
"""Longest seed file that is read; a seed has 58 characters."""


_PUBLIC = re.compile(r"U[A-Z2-7]{55}")


class KeyFault(ValueError):
    """A seed file cannot be used: which one, why, and what to do. Never holds its content."""


@dataclass(frozen=True, slots=True)
class Key:
    """A user's key pair."""

    public: str
    """`U…`: what the server knows it by."""
    seed: str = field(repr=False)
    """`SU…`: secret."""

    @property
    def inbox(self) -> str:
        """The prefix below which its answers arrive, and that no other key may listen to."""
        return inbox_of(self.public)


def inbox_of(public: str) -> str:
    """The inbox prefix of the key `public`."""
    return f"_INBOX_{public}"


def is_public(text: object) -> bool:
    """Whether it is a user's public key, and so has nothing in it that could be more."""
    return isinstance(text, str) and _PUBLIC.fullmatch(text) is not None


def new_key() -> Key:
    """A key that nobody else has."""
    import nkeys

    return _key(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))


def parse(text: str) -> Key:
    """The key of a seed; ValueError, which does not quote it, if it is none of a user."""
    import nkeys

    seed = text.strip().encode()
    try:
        prefix, raw = nkeys.decode_seed(seed)
        # nkeys reads a seed without looking at its checksum.
        whole = nkeys.encode_seed(bytes(raw), prefix) == seed
    except Exception as error:  # of several kinds, from three libraries
        raise ValueError("it holds no NKey seed") from error
    if not whole:
        raise ValueError("it holds an NKey seed that was damaged: its checksum is wrong")
    if prefix != nkeys.PREFIX_BYTE_USER:
        raise ValueError(f"it holds an NKey seed of another kind ({text.strip()[:2]}…), not a user")
    return _key(seed)


def read_key(path: Path) -> Key:
    """The key whose seed is the whole of the file; KeyFault if it cannot be used."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise KeyFault(
                    f"seed file {path} has mode {mode:04o}, so others than its owner can use it; "
                    f"chmod 600 {path}, and rotate it if they may have read it"
                )
            content = file.read(SEED_BYTES_MAX)
    except OSError as error:
        raise KeyFault(
            f"seed file {path} cannot be read: {error.strerror}; see what `tabard auth list` says"
        ) from error
    try:
        return parse(content.decode("ascii"))
    except ValueError as error:
        why = "it holds no NKey seed" if isinstance(error, UnicodeDecodeError) else str(error)
        raise KeyFault(
            f"seed file {path} cannot be used: {why}; one line of the form SU… is expected, as "
            "`tabard auth init` writes it"
        ) from None


def _key(seed: bytes) -> Key:
    import nkeys

    pair = nkeys.from_seed(bytearray(seed))
    return Key(pair.public_key.decode(), seed.decode())
