"""What `policy check`, `explain` and `matrix` print, key by key. Pure."""

from tabard.cli.fields import Field

PLACE = (
    Field("kind", "string", "the object's"),
    Field("namespace", "string", "the object's; empty of a cluster-wide kind"),
    Field("name", "string", "the object's"),
)
ORIGIN = Field("origin", "string", "file:line, or where the policy was when it was applied")
ACCEPTED = Field("event", "string?", "LEDGER/N that accepted the version in force; null offline")
CONNECTION = (
    Field(
        "protocol",
        "string",
        "TCP, UDP, SCTP, ICMP or ICMPV6; OTHER is all protocols but these; ANY is everything",
    ),
    Field("first", "integer", "first port, or type of ICMP"),
    Field("last", "integer", "last port, or type of ICMP"),
)
TIER = Field("tier", "string", "admin, network or baseline, judged in this order")
POLICY = (*PLACE, ORIGIN, ACCEPTED)
_PRIORITY = Field("priority", "integer", "of admin and baseline, the least is judged first")
_ACTION = Field(
    "action", "string", "allow, proxy (allow through the node's DNS proxy), deny or pass"
)
RULE = (
    *PLACE,
    TIER,
    _PRIORITY,
    _ACTION,
    Field("rule", "string", "its field path in the policy"),
    Field("peer", "string?", "field path of the peer that matched; null if the rule takes anyone"),
    Field("port", "string?", "field path of the port that matched; null if it takes every one"),
    Field("traffic", "object", "what its action is for", CONNECTION),
    Field("lookups", "[string]?", "the only names that DNS may ask for; null if it is for any"),
    ORIGIN,
    ACCEPTED,
)
SEQUENCE = Field("sequence", "integer?", "LEDGER's that it is true for; null of manifests alone")
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
VERDICT = (
    Field("allowed", "boolean", "whether this end lets it pass"),
    Field(
        "reason",
        "string",
        "allowed_no_policy, allowed_policy, allowed_proxy, allowed_host, denied_policy or "
        "denied_unknown_peer",
    ),
)
_HALF = (
    *VERDICT,
    Field("tier", "string?", "the tier that decided; null if none did, or no port was given"),
    Field(
        "isolated_by",
        "[object]",
        "policies that isolate it: what no rule of tiers admin and network allows is denied",
        POLICY,
    ),
    Field("rules", "[object]", "the deciding rule; without a port all that decide something", RULE),
    Field("passes", "[object]", "the rules before it that left it to the next tier", RULE),
    Field("overruled", "[object]", "rules that match too, and would have decided otherwise", RULE),
    Field(
        "misses",
        "[object]",
        "if it is denied, what each rule that could have allowed it asks for, the nearest first",
        (
            *PLACE,
            TIER,
            Field("path", "string", "field path of what did not match"),
            Field("why", "string", "why it did not"),
            ORIGIN,
        ),
    ),
    Field("connections", "[object]", "all that this end lets pass", CONNECTION),
)
_CONSIDERED = Field(
    "considered",
    "[object]",
    "each item of each rule that has a say, in the order in which they are judged",
    (
        *PLACE,
        TIER,
        _PRIORITY,
        _ACTION,
        Field("path", "string", "field path of the peer or, where that matched, of the rule"),
        Field("part", "string", "decides, passes, late (it matches, after the verdict) or misses"),
        Field("why", "string", "what it asks for, and what it met"),
        ORIGIN,
    ),
)


def _answer(half: tuple[Field, ...]) -> tuple[Field, ...]:
    return (
        SEQUENCE,
        Field(
            "allowed",
            "boolean",
            "whether all that was asked for may pass (without a port anything) in every address "
            "family that both ends have",
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
                    "IPv4 or IPv6, each judged for itself where verdicts differ; null if all that "
                    "both ends have agree, and the first explains it",
                ),
                Field("from", "string?", "the speaker's address that was held against CIDRs"),
                Field("to", "string?", "the listener's"),
                Field("allowed", "boolean", "whether both ends let it pass"),
                Field("egress", "object?", "at the speaker; null where no policy can hold", half),
                Field("ingress", "object?", "at the listener; null where no policy can hold", half),
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
                Field(
                    "cause", "string", "STREAM/sequence of what made it, empty for a first cause"
                ),
            ),
        ),
    )


CHECKED = _answer(_HALF)
EXPLAINED = _answer((*_HALF, _CONSIDERED))

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
    Field("rules", "[object]", "those that allow it, pass it on, or deny part of it", RULE),
)

MATRIX = (
    SEQUENCE,
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
