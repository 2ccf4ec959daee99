"""Subjects beside those of the streams: live copies, the bucket, and JetStream's own API. Pure."""

from tabard.bus.port import Stream

BUCKET = "TABARD_SNAPSHOTS"
BUCKET_STREAM = f"OBJ_{BUCKET}"
CHUNKS, RECORDS = f"$O.{BUCKET}.C.", f"$O.{BUCKET}.M."
"""What precedes an object's nuid, and its encoded name, in its messages' subjects (ADR-20)."""

API = "$JS.API"
"""JetStream's own prefix of questions."""
GUARDED_API = "tabard.api"
"""The same for whoever comes with a key. Outside the streams' own account the server itself answers
on $JS.API, that JetStream is off there, so questions to the streams need a prefix of their own."""


def live_subject(stream: Stream) -> str:
    """Where a copy of each stored message goes: `tabard.live.ledger.>` for `tabard.ledger.>`."""
    return f"tabard.live.{stream.lower()}.>"


def info(stream: str) -> str:
    """The question what a stream is and holds, below the API's prefix."""
    return f"STREAM.INFO.{stream}"


def direct_get(stream: str, subject: str = "") -> str:
    """The question for messages of a stream; with `subject` for the last one on it alone."""
    return f"DIRECT.GET.{stream}" + (f".{subject}" if subject else "")
