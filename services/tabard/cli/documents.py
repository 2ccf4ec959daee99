"""What each command prints with `-o json` and `-o yaml`, by the command. Pure."""

from collections.abc import Iterator, Mapping

from tabard.cli.authoring import DIFFERENCE, LINTED, TRIMMED
from tabard.cli.fields import (
    BINDINGS,
    CHAIN,
    DRIFT,
    IDENTITIES,
    NAMES,
    NODES,
    OBJECTS,
    PODS,
    POLICIES,
    READABLE,
    SEQUENCE,
    STATUS,
    STORED_AT,
    STREAMS,
    UNREADABLE,
    WAITED,
    WORKLOADS,
    Field,
)
from tabard.cli.judgements import CHECKED, EXPLAINED, MATRIX, PAIR, PLACE
from tabard.cli.kinds import SHOWN
from tabard.cli.rehearsal import FAULTS, REHEARSED, SCENARIOS, SIMULATED
from tabard.cli.upkeep import (
    CUT,
    DOCTOR,
    KEYS,
    METRICS,
    REPLICAS,
    ROLES,
    SNAPSHOT,
    SNAPSHOTS,
    SNAPSHOTS_VERIFIED,
    VERIFIED,
)

EVENT = Field("event", "string", "ADDED, MODIFIED or DELETED")
HISTORY = Field("history", "[object]", "the ledger events about it, oldest first", READABLE)
DOCUMENT = Field("document", "any", "what its author wrote; null if nothing is in force")

DESCRIBED: Mapping[str, tuple[Field, ...]] = {
    "pods": (
        Field("pod", "object", "the pod", PODS),
        Field("identity", "object?", "what its number stands for; null if it has none", IDENTITIES),
        Field(
            "isolation",
            "object?",
            "where only what a policy allows passes; null for a pod that is not bound",
            (
                Field("ingress", "boolean", "to it"),
                Field("egress", "boolean", "from it"),
            ),
        ),
        Field("policies", "[object]", "those that select it", POLICIES),
        Field("node", "object?", "where it runs; null if the ledger has no such node", NODES),
        Field(HISTORY.name, HISTORY.type, "the ledger events about pods of its name", READABLE),
    ),
    "identities": (
        Field("identity", "object", "the identity", IDENTITIES),
        Field("pods", "[object]", "those that have it", PODS),
        Field("selected_by", "[object]", "policies that apply to it", POLICIES),
        Field(
            "named_by",
            "[object]",
            "rules about traffic from or to it",
            (
                *PLACE,
                Field("rule", "string", "the rule's field path"),
                Field("action", "string", "allow, deny or pass (to the next tier)"),
                Field("direction", "string", "ingress (it sends) or egress (it receives)"),
                Field("by", "string", "selector, cidr, or anyone (a rule without peers)"),
            ),
        ),
        HISTORY,
    ),
    "nodes": (
        Field("node", "object", "the node", NODES),
        Field("pods", "[object]", "those that run on it", PODS),
        HISTORY,
    ),
    "policies": (
        Field("policy", "object", "the policy", POLICIES),
        Field(
            "rules",
            "[object]",
            "what the version in force says",
            (
                Field("direction", "string", "ingress or egress"),
                Field("rule", "string", "the rule's field path"),
                Field("action", "string", "allow, deny or pass (to the next tier)"),
                Field("peers", "[string]?", "selectors, CIDRs, entities …; null is anyone"),
                Field("ports", "[string]", "such as 80/TCP"),
            ),
        ),
        Field("pods", "[object]", "those that it selects", PODS),
        DOCUMENT,
        HISTORY,
    ),
    "bindings": (
        Field("binding", "object", "the binding", BINDINGS),
        Field("pod", "object", "who holds the address", PODS),
        Field(HISTORY.name, HISTORY.type, "the ledger events about who held it", READABLE),
    ),
    "names": (
        Field("name", "object", "the name", NAMES),
        Field("asked_by", "[object]", "policies that ask for it", POLICIES),
        HISTORY,
    ),
    "workloads": (
        Field("workload", "object", "the workload", WORKLOADS),
        Field("pods", "[object]", "those that it has", PODS),
        DOCUMENT,
        HISTORY,
    ),
    "streams": (
        Field("stream", "object", "the stream", STREAMS),
        Field("last", "[object]", "its last messages; unreadable ones as `events show`", READABLE),
    ),
}
"""What `describe` prints, after `sequence` and `stored_at`."""


def _commands() -> Iterator[tuple[str, tuple[Field, ...]]]:
    for kind, (singular, *_) in SHOWN.items():
        items = Field("items", "[object]", f"the {kind}", OBJECTS[kind])
        yield f"get {kind}", (SEQUENCE, STORED_AT, items)
        if kind != "streams":
            item = Field("item", "object", "the object; if DELETED, as it was", OBJECTS[kind])
            yield f"get {kind} --watch", (SEQUENCE, EVENT, item)
        yield f"describe {singular}", (SEQUENCE, STORED_AT, *DESCRIBED[kind])
    yield "status", STATUS
    yield "events tail", READABLE
    yield "events tail, of an unreadable event", UNREADABLE
    yield "events show", (*READABLE, CHAIN)
    yield "events show, of an unreadable event", (*UNREADABLE, CHAIN)
    yield "events verify", VERIFIED
    yield "snapshots list", SNAPSHOTS
    yield "snapshots take", SNAPSHOT
    yield "snapshots verify", SNAPSHOTS_VERIFIED
    yield "ledger trim", CUT
    yield "drift", DRIFT
    yield "wait", WAITED
    yield "policy check", CHECKED
    yield "policy explain", EXPLAINED
    yield "policy matrix", MATRIX
    pair = Field("item", "object", "the pair; if DELETED, as it was", PAIR)
    yield "policy matrix --watch", (SEQUENCE, EVENT, pair)
    yield "policy lint", LINTED
    yield "policy diff", DIFFERENCE
    yield "policy trim", TRIMMED
    yield "bus status", REPLICAS
    yield "bus check", REPLICAS
    yield "doctor", DOCTOR
    yield "metrics", METRICS
    yield "chaos list", SCENARIOS
    yield "chaos run", REHEARSED
    yield "chaos simulate", SIMULATED
    yield "chaos simulate --list-faults", FAULTS
    yield "auth list", KEYS
    yield "auth roles", ROLES


COMMANDS: Mapping[str, tuple[Field, ...]] = dict(_commands())
