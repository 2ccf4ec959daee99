"""How to reach a server, and what to ask of it."""

from dataclasses import dataclass
from pathlib import Path

LEDGER_BYTES_MAX = 16 << 30


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds, sizes in bytes. Credentials: one of the three kinds, or in the URL.

    Key and CA are read anew for each connection, so that they can be rotated under a process.
    """

    connect_timeout_s: float = 10.0
    """For the first connection; afterwards the bus tries for ever."""
    request_timeout_s: float = 15.0
    """For one call to be answered, a reconnection on the way included, or the election of a leader
    for the stream, which takes JetStream 4 to 9 s."""
    user: str | None = None
    password: str | None = None
    user_credentials: str | None = None
    """Path of a `.creds` file (JWT and seed)."""
    nkey: Path | None = None
    """A file that holds an NKey seed; answers then arrive below an inbox of that key's own."""
    ca: Path | None = None
    """A file with the certificates (PEM) of those whose word for a server counts: nobody else's
    does then, and a server without TLS is refused. None: the system's, for tls:// alone."""
    inbox_prefix: str = "_INBOX"
    """Answers arrive below it, unless `nkey` is given."""
    api_prefix: str = ""
    """`$JS.<domain>.API` behind a leaf node; empty: GUARDED_API with `nkey`, else API."""
    ledger_bytes_max: int = LEDGER_BYTES_MAX
    """LEDGER refuses appends beyond it: it is never shortened."""
