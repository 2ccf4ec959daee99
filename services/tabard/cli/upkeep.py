"""What commands that look after a cluster print, key by key: its machine and services, the bus,
what the ledger keeps, and keys. Pure."""

from tabard.cli.fields import Field

DOCTOR = (
    Field(
        "checks",
        "[object]",
        "what was looked at",
        (
            Field("name", "string", "what it is"),
            Field("outcome", "string", "ok, warn or fault"),
            Field("fact", "string", "what was observed"),
            Field("next", "string", "what to type; empty if nothing is to be done"),
        ),
    ),
)

METRICS = (
    Field(
        "services",
        "[object]",
        "each process of the cluster",
        (
            Field("name", "string", "allocator, source or agent.NODE"),
            Field("url", "string", "where it serves /metrics, /healthz and /readyz"),
            Field("ready", "boolean", "whether it is"),
            Field("reason", "string", "why it is not, or gave no answer"),
        ),
    ),
)

REPLICAS = (
    Field(
        "servers",
        "[object]",
        "the bus's servers",
        (
            Field("name", "string", "its own, empty if it gave no answer"),
            Field("url", "string", "where it is monitored"),
            Field("failure", "string", "why it gave no answer, or empty"),
        ),
    ),
    Field(
        "replicas",
        "[object]",
        "each server's replica of each stream",
        (
            Field("server", "string", "whose it is"),
            Field("stream", "string", "of which stream"),
            Field("account", "string", "the bus's account that the stream is in"),
            Field("role", "string?", "leader or follower; null if its server says nothing of it"),
            Field("first", "integer?", "the first sequence that it has"),
            Field("last", "integer?", "the last one"),
            Field("messages", "integer?", "how many it counts"),
            Field("bytes", "integer?", "what they take"),
            Field("holes", "integer", "messages that it must have and has not"),
            Field("behind", "integer", "by how many it ends before the furthest one"),
            Field("faults", "[string]", "what is wrong with it"),
        ),
    ),
)

VERIFIED = (
    Field("first", "integer", "the first sequence that is kept: 1, or where it was trimmed to"),
    Field("head", "integer", "LEDGER's last sequence"),
    Field("verified", "integer", "through which all is contiguous and chained"),
    Field("bad", "integer?", "the first bad sequence, if there is one"),
    Field("reason", "string", "what is wrong with it, or empty"),
    Field("chain", "string", "hash that covers all that was verified, in hexadecimal"),
    Field("quarantined", "[integer]", "sequences that an operator let readers go on past"),
)

_SNAPSHOT = (
    Field("sequence", "integer", "LEDGER's whose state it is"),
    Field("stored_at", "integer", "when it was stored, or marked"),
    Field("bytes", "integer", "its size on the bus"),
    Field("kept", "string", "why it is kept beyond the newest, such as `trim`; or empty"),
    Field("by", "string", "the process that made it"),
    Field("release", "string", "of Tabard that made it"),
    Field("schema", "string", "version of the state's form in it"),
    Field("digest", "string", "of the state, in hexadecimal"),
)

SNAPSHOTS = (
    Field("first", "integer", "LEDGER's first sequence that is kept"),
    Field("head", "integer", "LEDGER's last sequence"),
    Field("snapshots", "[object]", "newest first", _SNAPSHOT),
)

SNAPSHOT = _SNAPSHOT

SNAPSHOTS_VERIFIED = (
    Field(
        "snapshots",
        "[object]",
        "oldest first",
        (
            Field("sequence", "integer", "LEDGER's whose state it is"),
            Field("good", "boolean", "whether the ledger comes to it"),
            Field(
                "proven_from",
                "integer?",
                "sequence from which the ledger was folded: 0, or the oldest good snapshot's",
            ),
            Field("reason", "string", "why it is not good, or empty"),
        ),
    ),
)

CUT = (
    Field("first", "integer", "LEDGER's first sequence from now on; a snapshot stands there"),
    Field("removed", "integer", "how many events were removed"),
    Field("archive", "string?", "file that has them; null if nothing was to be removed"),
    Field("sha256", "string?", "hash of that file, in hexadecimal; LEDGER says it too"),
)

KEYS = (
    Field("path", "string", "the auth directory"),
    Field(
        "holders",
        "[object]",
        "who has a key",
        (
            Field("holder", "string", "a role, and a name or node: operator, agent.n1"),
            Field("account", "string", "its account on the bus"),
            Field("keys", "[string]", "public keys that servers take; two while it is rotated"),
            Field("file", "string", "its seed: the secret"),
            Field("fault", "string", "why the file cannot be used, or empty"),
        ),
    ),
    Field(
        "servers",
        "[object]",
        "nats-servers that have a certificate",
        (
            Field("server", "string", "its name"),
            Field("hosts", "[string]", "addresses and names that the certificate is good for"),
            Field("expires", "string", "the day (UTC) on which it does"),
        ),
    ),
    Field(
        "authority",
        "object",
        "who vouches for them",
        (
            Field("expires", "string", "the day (UTC) on which its certificate does"),
            Field("rotating", "boolean", "whether another takes its place, and both count"),
        ),
    ),
)
ROLES = (
    Field(
        "roles",
        "[object]",
        "each role on a guarded bus",
        (
            Field("role", "string", "its name"),
            Field("account", "string", "its account on the bus"),
            Field("about", "string", "what it is for"),
            Field("writes", "[string]", "subjects of streams"),
            Field("asks", "[string]", "questions of JetStream's API, without its prefix"),
            Field("hears", "[string]", "streams whose new messages it is sent"),
        ),
    ),
)
