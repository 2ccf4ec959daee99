"""How to reach a server, and what to ask of it."""

import ssl
from dataclasses import dataclass

LEDGER_BYTES_MAX = 16 << 30


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds, sizes in bytes. Credentials: one of the three kinds, or in the URL."""

    connect_timeout_s: float = 10.0
    """For the first connection; afterwards the bus tries for ever."""
    request_timeout_s: float = 10.0
    """For one call to be answered, a reconnection on the way included."""
    user: str | None = None
    password: str | None = None
    user_credentials: str | None = None
    """Path of a `.creds` file (JWT and seed)."""
    nkeys_seed: str | None = None
    """Path of a file that holds an NKey seed."""
    inbox_prefix: str = "_INBOX"
    """Answers arrive below it: give each service its own, so that none can read another's."""
    tls: ssl.SSLContext | None = None
    api_prefix: str = "$JS.API"
    """`$JS.<domain>.API` behind a leaf node."""
    ledger_bytes_max: int = LEDGER_BYTES_MAX
    """LEDGER refuses appends beyond it: it is never shortened."""
