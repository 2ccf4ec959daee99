"""Checks of arguments, made alike by every adapter; a bad argument is a ValueError."""

import re
from collections.abc import Mapping, Sequence

from tabard.bus.port import (
    BATCH_MESSAGES_MAX,
    PAYLOAD_BYTES_MAX,
    READ_MESSAGES_MAX,
    Outgoing,
    Stream,
    subject,
)

NAME_BYTES_MAX = 512
"""Longest subject and longest message id, in bytes; both travel in protocol lines and headers."""

# A NATS subject without wildcards: tokens of printable ASCII parted by single dots. ASCII only, so
# that its length in characters is its length in bytes.
_SUBJECT = re.compile(r"[!-)+\-/-=?-~]+(\.[!-)+\-/-=?-~]+)+")
_OBJECT_NAME = re.compile(r"[!-~]{1,128}")
METADATA_BYTES_MAX = 4096
"""What an object's metadata may take, keys and values together."""
# What may stand in a header without ending its line.
_ID = re.compile(r"[ -~]*")


def check_outgoing(stream: Stream, messages: Sequence[Outgoing]) -> None:
    """ValueError for a message that the bus could not store on `stream` as it is."""
    prefix = subject(stream) + "."
    for message in messages:
        if not message.subject.startswith(prefix) or not _SUBJECT.fullmatch(message.subject):
            raise ValueError(f"{message.subject!r} is not a subject of stream {stream}: {prefix}…")
        if not _ID.fullmatch(message.id):
            raise ValueError(f"message id {message.id!r} holds more than printable ASCII")
        if max(len(message.subject), len(message.id)) > NAME_BYTES_MAX:
            raise ValueError(
                f"subject or id of {message.subject[:80]!r}… is over {NAME_BYTES_MAX} bytes"
            )
        if len(message.payload) > PAYLOAD_BYTES_MAX:
            raise ValueError(
                f"payload on {message.subject!r} has {len(message.payload)} bytes, "
                f"over the bus's {PAYLOAD_BYTES_MAX}"
            )


def check_batch(messages: Sequence[Outgoing], expected_last: int) -> None:
    """ValueError unless `append` may be tried with these."""
    if not 1 <= len(messages) <= BATCH_MESSAGES_MAX:
        raise ValueError(f"an append holds 1 to {BATCH_MESSAGES_MAX} messages, not {len(messages)}")
    if expected_last < 0:
        raise ValueError(f"expected_last is {expected_last}; sequences start at 1, none is 0")
    check_outgoing(Stream.LEDGER, messages)


def check_read(start: int, limit: int = READ_MESSAGES_MAX) -> None:
    """ValueError unless `read` or `tail` may start at `start` with batches of `limit`."""
    if start < 1:
        raise ValueError(f"start is {start}; sequences start at 1")
    if not 1 <= limit <= READ_MESSAGES_MAX:
        raise ValueError(f"limit is {limit}; a read returns 1 to {READ_MESSAGES_MAX} messages")


def check_object(name: str, metadata: Mapping[str, str]) -> None:
    """ValueError unless an object may have this name and metadata."""
    if not _OBJECT_NAME.fullmatch(name):
        raise ValueError(f"object name {name[:80]!r} is not 1 to 128 characters of printable ASCII")
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > METADATA_BYTES_MAX:
        raise ValueError(f"metadata of object {name} has {size} bytes, over {METADATA_BYTES_MAX}")
