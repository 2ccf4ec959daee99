"""What `policy check`, `policy matrix`, `doctor` and `metrics` print, key by key. Pure."""

from tabard.cli.fields import Field

_PLACE = (
    Field("kind", "string", "the policy's"),
    Field("namespace", "string", "the policy's"),
    Field("name", "string", "the policy's"),
)
_ORIGIN = Field("origin", "string", "file:line, or where the policy was when it was applied")
_ACCEPTED = Field("event", "string?", "LEDGER/N that accepted the version in force; null offline")
CONNECTION = (
    Field("protocol", "string", "TCP, UDP, SCTP, ICMP …; ANY is everything"),
    Field("first", "integer", "first port, or type of ICMP"),
    Field("last", "integer", "last port, or type of ICMP"),
)
RULE = (
    *_PLACE,
    Field("rule", "string", "its field path in the policy"),
    Field("peer", "string?", "field path of the peer that matched; null if the rule takes anyone"),
    Field("port", "string?", "field path of the port that matched; null if it takes every one"),
    Field("allows", "object", "what it lets pass", CONNECTION),
    _ORIGIN,
    _ACCEPTED,
)
_SEQUENCE = Field("sequence", "integer?", "LEDGER's that it is true for; null of manifests alone")
_END = (
    Field("asked", "string", "how it was named"),
    Field("role", "string", "pod, node, world or unknown"),
    Field("namespace", "string?", "the pod's; this and the like is null of what is no pod"),
    Field("name", "string?", "the pod's"),
    Field("uid", "string?", "the pod's"),
    Field("owner", "string?", "the pod's workload, Kind/namespace/name"),
    Field("nodes", "[string]", "where it is"),
    Field("address", "string?", "the first by which it was judged; null if it has none"),
    Field("identity", "integer", "its security identity"),
    Field("labels", "[string]", "what the number stands for"),
)
_HALF = (
    Field("allowed", "boolean", "whether this end lets it pass"),
    Field(
        "reason",
        "string",
        "allowed_no_policy, allowed_policy, allowed_host, denied_policy or denied_unknown_peer",
    ),
    Field(
        "isolated_by", "[object]", "policies that isolate the pod", (*_PLACE, _ORIGIN, _ACCEPTED)
    ),
    Field("rules", "[object]", "the deciding rule; without a port all that allow something", RULE),
    Field(
        "misses",
        "[object]",
        "if none allows it, what each rule would have taken, the nearest first",
        (
            *_PLACE,
            Field("path", "string", "field path of what did not match"),
            Field("why", "string", "why it did not"),
            _ORIGIN,
        ),
    ),
    Field("connections", "[object]", "all that this end lets pass", CONNECTION),
)

CHECKED = (
    _SEQUENCE,
    Field(
        "allowed",
        "boolean",
        "whether all that was asked for may pass (without a port anything) in every address family "
        "that both ends have",
    ),
    Field("from", "object", "who speaks", _END),
    Field("to", "object", "who listens", _END),
    Field(
        "checks",
        "[object]",
        "each port that was asked for, of each address family if they differ",
        (
            Field("asked", "string?", "as it was given; null if no port was"),
            Field("protocol", "string?", "its protocol; null if no port was given"),
            Field("port", "integer?", "its number, or ICMP's type; null if no port was given"),
            Field(
                "family",
                "string?",
                "IPv4 or IPv6, each judged for itself where verdicts differ; null if all that both "
                "ends have agree, and the first explains it",
            ),
            Field("from", "string?", "the speaker's address that was held against ipBlocks"),
            Field("to", "string?", "the listener's"),
            Field("allowed", "boolean", "whether both ends let it pass"),
            Field("egress", "object?", "at the speaker; null where no policy can hold", _HALF),
            Field("ingress", "object?", "at the listener; null where no policy can hold", _HALF),
            Field("connections", "[object]", "all that may pass so, on any port", CONNECTION),
        ),
    ),
    Field("connections", "[object]", "all that may pass in every family", CONNECTION),
    Field(
        "events",
        "[object]",
        "ledger events that led there, oldest first; none of manifests alone",
        (
            Field("sequence", "integer", "LEDGER's"),
            Field("place", "string", "LEDGER/N"),
            Field("type", "string", "such as policy.accepted"),
            Field("of", "string", "what it is about, such as policy shop/web"),
            Field("at", "integer", "when it was stored, as --at counts it (ns since 1970)"),
            Field("time", "string", "the same in UTC (ISO 8601)"),
            Field("cause", "string", "STREAM/sequence of what made it, empty for a first cause"),
        ),
    ),
)

PAIR = (
    Field("from", "string", "the party that speaks"),
    Field("to", "string", "the party that listens"),
    Field(
        "connections",
        "[object]",
        "what all of one may send to all of it, in each family",
        CONNECTION,
    ),
    Field(
        "some",
        "[object]",
        "what some may send to some, or on some of their addresses only",
        CONNECTION,
    ),
    Field("rules", "[object]", "those that allow it; none where nothing isolates", RULE),
)

MATRIX = (
    _SEQUENCE,
    Field("by", "string", "workload, pod or identity: what a party is"),
    Field(
        "parties",
        "[object]",
        "rows and columns, in the table's order",
        (
            Field("name", "string", "what `items` call it"),
            Field("namespace", "string", "its namespace, empty if it is in none"),
            Field("kind", "string", "the workload's, or Pod, Identity, Address"),
            Field("pods", "[string]", "names of its pods"),
            Field("identities", "[integer]", "numbers that its pods have"),
        ),
    ),
    Field(
        "items",
        "[object]",
        "each pair between which something may pass; between all others nothing may",
        PAIR,
    ),
)

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
