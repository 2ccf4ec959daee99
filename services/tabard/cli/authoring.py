"""What `policy lint`, `policy diff` and `policy trim` print, key by key. Pure."""

from tabard.cli.fields import Field
from tabard.cli.judgements import (
    ACCEPTED,
    CONNECTION,
    ORIGIN,
    PLACE,
    POLICY,
    SEQUENCE,
    TIER,
    VERDICT,
)

LINTED = (
    SEQUENCE,
    Field(
        "findings",
        "[object]",
        "by file and line",
        (
            Field("rule", "string", "the lint rule's id, which never changes meaning"),
            Field("name", "string", "the lint rule's name"),
            Field("severity", "string", "error, warning or info"),
            Field("kind", "string", "the object's; empty if it cannot be read"),
            Field("namespace", "string", "the object's"),
            Field("object", "string", "the object's name"),
            Field("path", "string", "field path in the object; empty for all of it"),
            Field("message", "string", "what was found"),
            Field("mend", "string", "what to do about it"),
            Field("file", "string", "where it is written, as far as that is known"),
            Field("line", "integer?", "the line there; null if it is not known"),
        ),
    ),
    Field("meant", "integer", "findings that an annotation says are meant, left out above"),
)

_HALF = (
    *VERDICT,
    Field(
        "rule",
        "object?",
        "the rule that decided; null if none did",
        (
            *PLACE,
            TIER,
            Field("action", "string", "allow, proxy or deny"),
            Field("rule", "string", "its field path in the policy"),
            ORIGIN,
            ACCEPTED,
        ),
    ),
    Field("isolated_by", "[object]", "policies that isolate the end", POLICY),
)

DIFFERENCE = (
    Field("before", "integer?", "LEDGER's sequence of A; null of manifests alone"),
    Field("after", "integer?", "LEDGER's sequence of B; null of manifests alone"),
    Field("compared", "integer", "workloads, nodes and parts of the world held against each other"),
    Field(
        "changes",
        "[object]",
        "what becomes allowed or denied; what changed alike for the same reason is one",
        (
            Field("change", "string", "allowed or denied"),
            Field("from", "[string]", "those that speak"),
            Field("to", "[string]", "those that listen: each of `from` to each of them"),
            Field("connections", "[object]", "on these ports", CONNECTION),
            Field(
                "why",
                "[object]",
                "the ends whose word is another than before",
                (
                    Field("direction", "string", "egress at the speaker, ingress at the listener"),
                    Field("before", "object?", "what A says; null where no policy can hold", _HALF),
                    Field("after", "object?", "what B says; null where no policy can hold", _HALF),
                ),
            ),
        ),
    ),
    Field(
        "only",
        "object",
        "workloads that one side alone has, which are not compared",
        (
            Field("before", "[string]", "of A alone"),
            Field("after", "[string]", "of B alone"),
        ),
    ),
)

TRIMMED = (
    SEQUENCE,
    Field("equivalence", "string", "for whom the smaller set gives the same verdicts"),
    Field("pairs", "integer", "pairs of parties on which the engine held both sets equal"),
    Field(
        "removed",
        "[object]",
        "parts that went",
        (
            *PLACE,
            Field("path", "string", "field path of the part; empty for all of the object"),
            ORIGIN,
        ),
    ),
    Field("policies", "[any]", "the documents that are left"),
)
