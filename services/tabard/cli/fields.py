"""What `-o json` and `-o yaml` print, key by key: stable, and shown by `tabard explain`. Pure.

Tests hold every key that is printed equal to these. Times are nanoseconds since the Unix epoch.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Field:
    """A key of a printed object.

    `type` is `string`, `integer`, `number`, `boolean`, `object`, `any`, one of these in brackets
    for a list, or `{string: …}` for a map; with `?` it may be null. `fields` are those of an
    object, or of each object in a list.
    """

    name: str
    type: str
    doc: str
    fields: tuple["Field", ...] = ()


SEQUENCE = Field("sequence", "integer", "LEDGER's, through which all of this is folded")
STORED_AT = Field("stored_at", "integer?", "when that event was stored; null before the first")

PODS = (
    Field("namespace", "string", "the pod's namespace"),
    Field("name", "string", "its name; a reused one is another pod"),
    Field("uid", "string", "its incarnation"),
    Field("node", "string", "where it runs"),
    Field("addresses", "[string]", "those that it holds"),
    Field("identity", "integer?", "its security identity; null if Waiting or Refused"),
    Field(
        "planned",
        "object?",
        "what it is to be after a label change, as soon as every live node knows that identity; "
        "null if no change waits",
        (
            Field("identity", "integer", "its identity then"),
            Field("labels", "{string: string}", "its labels then"),
            Field("since", "integer", "when the change was decided that has waited longest"),
            Field("sequence", "integer", "LEDGER's, through which nodes must enforce it"),
        ),
    ),
    Field("labels", "{string: string}", "as its author wrote them"),
    Field(
        "status",
        "string",
        "Enforced (its node enforces the ledger past its binding), Bound (not yet, or of the "
        "past), Waiting (for a free number) or Refused",
    ),
    Field("reason", "string", "why it is Waiting or Refused, else empty"),
    Field("owner", "string", "Kind/namespace/name of its workload, empty if it has none"),
    Field("service_account", "string", "its service account's name"),
    Field(
        "ports",
        "[object]",
        "its named container ports",
        (
            Field("name", "string", "the port's name"),
            Field("port", "integer", "its number"),
            Field("protocol", "string", "TCP, UDP or SCTP"),
        ),
    ),
    Field("host_network", "boolean", "whether it has its node's addresses instead of its own"),
    Field("started_at", "integer", "when this incarnation started"),
    Field("sequence", "integer?", "LEDGER's at its latest binding or change; null if it has none"),
)

IDENTITIES = (
    Field("identity", "integer", "the number"),
    Field("namespace", "string?", "of its pods; null if it is none of pods"),
    Field(
        "status",
        "string",
        "Used, Idle (nobody's; retires after the grace), Quarantined (retired: no labels, not yet "
        "free for reuse) or Doubtful (free, but a lost node may still take it for what it was: "
        "used last)",
    ),
    Field("scope", "string", "cluster, fixed (by the operator) or cidr"),
    Field("labels", "[string]", "source:key=value, what the number stands for"),
    Field(
        "users",
        "integer",
        "endpoints that have it or are to have it, policies that name its CIDR, or nodes whose "
        "address it is",
    ),
    Field("sequence", "integer", "LEDGER's at its allocation or retirement"),
)

NODES = (
    Field("name", "string", "the node's name"),
    Field(
        "status",
        "string",
        "Current (enforces LEDGER's head), Lagging, Stopped (its agent was ended) or Silent (its "
        "agent said nothing for 15 s; in both its kernel enforces what it had), Failing (see "
        "error), Unknown (said nothing yet, or of the past: --at), Lost (got no further for so "
        "long that nothing waits for it) or Refused (see reason: it never joined)",
    ),
    Field("reason", "string", "why it is Lost or was refused, else empty"),
    Field("addresses", "[string]", "in the underlay"),
    Field("pod_cidrs", "[string]", "where its pods' addresses come from"),
    Field("labels", "{string: string}", "what policies select it by, its hostname at least"),
    Field("endpoints", "integer", "pods that the ledger has on it"),
    Field(
        "watermark",
        "integer?",
        "LEDGER sequence that it enforces. This and all that the agent says is null as long as it "
        "said nothing, and with --at: the bus keeps each node's last word alone",
    ),
    Field("lag", "integer?", "LEDGER's head minus the watermark, in events"),
    Field(
        "lag_ms",
        "integer?",
        "milliseconds since the first event that it does not enforce was stored, 0 at the head",
    ),
    Field("dataplane", "string?", "ebpf or memory"),
    Field("enforced_endpoints", "integer?", "pods that its agent has in the dataplane"),
    Field("map_writes", "{string: integer}?", "entries written or deleted, by map"),
    Field("drift", "integer?", "entries that its last check found different, and repaired"),
    Field("full", "{string: integer}?", "maps that had no room, with the writes each refused"),
    Field("error", "string?", "why its agent does not go on, or empty"),
    Field("said_at", "integer?", "when it said so"),
    Field("digest", "string?", "of the state that it folded (hexadecimal); empty before the first"),
    Field("digest_at", "integer?", "the LEDGER sequence of that state"),
    Field(
        "digest_agrees",
        "boolean?",
        "whether it is the ledger's there; null where the two were not compared (`status` does)",
    ),
    Field("fresh_at", "integer?", "when it last knew that it enforced LEDGER's head, if ever"),
    Field("stale_since", "integer?", "when that became too long ago, if it did"),
    Field("denies_new", "boolean?", "whether some of its pods open no new flows for that"),
    Field("holder", "object?", "the process that speaks for it: host, pid, since, data"),
)

POLICIES = (
    Field("kind", "string", "such as NetworkPolicy"),
    Field("namespace", "string", "the policy's namespace; empty of a cluster-wide kind"),
    Field("name", "string", "its name"),
    Field(
        "status",
        "string",
        "Accepted, Refused, or Outdated (a newer version was refused, the one before is in force)",
    ),
    Field("reason", "string", "why it was refused: what, at which field path, how to mend it"),
    Field(
        "tier",
        "string?",
        "admin, network or baseline, judged in this order; null if nothing is in force, or what is "
        "says no rule but is referred to",
    ),
    Field("priority", "integer?", "within its tier the least is judged first; null as tier is"),
    Field("isolates", "[string]?", "ingress, egress; null if nothing is in force"),
    Field("rules", "integer?", "how many; null if nothing is in force"),
    Field("denials", "integer?", "how many of them deny; null if nothing is in force"),
    Field("pods", "integer?", "endpoints that it selects; null if nothing is in force"),
    Field("origin", "string", "file:line where it was written, empty if unknown"),
)

BINDINGS = (
    Field("address", "string", "the address"),
    Field("identity", "integer", "whose it is"),
    Field("namespace", "string", "of the pod that holds it"),
    Field("name", "string", "of the pod that holds it"),
    Field("uid", "string", "of the pod that holds it"),
    Field("node", "string", "where that pod runs"),
)

NAMES = (
    Field("name", "string", "a domain name that policies ask for, as toFQDNs does"),
    Field(
        "addresses",
        "[object]",
        "what stands for it",
        (
            Field("address", "string", "the address"),
            Field("identity", "integer?", "of its CIDR; null if it has none"),
            Field("expires_at", "integer", "until when"),
        ),
    ),
    Field("expires_at", "integer", "when the last of them ends"),
    Field("policies", "[string]", "KIND/NAMESPACE/NAME of those that ask for it"),
)

WORKLOADS = (
    Field("kind", "string", "Deployment, StatefulSet, DaemonSet, Job, Pod …"),
    Field("namespace", "string", "its namespace"),
    Field("name", "string", "its name"),
    Field("desired", "integer?", "pods that it asks for; null for a kind that asks for none"),
    Field("bound", "integer", "pods that it has"),
    Field("origin", "string", "file:line where it was written, empty if unknown"),
)

STREAMS = (
    Field("name", "string", "OBSERVED, LEDGER, STATUS or FLOWS"),
    Field("first", "integer", "oldest sequence that is stored; last + 1 if none is"),
    Field("last", "integer", "newest sequence; 0 if there never was one"),
    Field("messages", "integer", "how many are stored"),
    Field("bytes", "integer", "what they take"),
    Field(
        "holes",
        "integer",
        "sequences from first to last without a message: 0 on a whole LEDGER; on STATUS those that "
        "a node's newer word replaced",
    ),
    Field("first_at", "integer?", "when the oldest was stored; null if none is"),
    Field("last_at", "integer?", "when the newest was stored; null if none is"),
    Field("replicas", "integer", "bus servers that are to hold it"),
    Field("storage", "string", "file or memory"),
    Field(
        "retention",
        "object",
        "what it keeps; null is no limit",
        (
            Field("age_s_max", "number?", "older messages are dropped"),
            Field("bytes_max", "integer?", "most bytes"),
            Field("per_subject_max", "integer?", "most messages of one subject: the last ones"),
            Field("when_full", "string", "drops (its oldest) or refuses (new messages)"),
        ),
    ),
)

OBJECTS: Mapping[str, tuple[Field, ...]] = {
    "pods": PODS,
    "identities": IDENTITIES,
    "nodes": NODES,
    "policies": POLICIES,
    "bindings": BINDINGS,
    "names": NAMES,
    "workloads": WORKLOADS,
    "streams": STREAMS,
}
"""A row of each kind that `get` shows."""

ALLOCATORS = (
    Field("name", "string", "the same for all its processes"),
    Field(
        "status",
        "string",
        "Leading, Following, Starting, Stopped (as it was asked to), Silent (it is down or cut "
        "off), Failing (`error` says why), or Fenced (another leads, which it has not noticed)",
    ),
    Field("role", "string", "leading, following, starting or stopped, as it said"),
    Field("holder", "string", "its process, as in the ledger's epoch.claimed"),
    Field("epoch", "integer", "the ledger's, as far as it has it"),
    Field("sequence", "integer", "through which it has the ledger"),
    Field("lag", "integer", "the ledger's head minus its sequence"),
    Field("cursor", "integer", "through which OBSERVED has had its effect, as far as it knows"),
    Field("observed_lag", "integer?", "OBSERVED's head minus its cursor"),
    Field("waiting", "integer", "observed events that it has read and not decided"),
    Field("superseded", "integer", "observed events that it passed over for later ones"),
    Field("error", "string", "what it stands before, or empty"),
    Field("said_at", "integer", "when it said so"),
    Field("age_ms", "integer", "how long ago that was"),
)

STATUS = (
    Field(
        "ledger",
        "object",
        "the ledger",
        (
            Field("sequence", "integer", "through which all of this is folded"),
            Field("stored_at", "integer?", "when that event was stored; null before the first"),
            Field("head", "integer", "its last sequence"),
            Field("digest", "string", "of the state through `sequence`, in hexadecimal"),
        ),
    ),
    Field(
        "observed",
        "object",
        "what was published for the allocator",
        (
            Field("head", "integer?", "OBSERVED's last sequence; null with --at"),
            Field("cursor", "integer", "through which the allocator has decided"),
            Field("lag", "integer?", "head minus cursor; null with --at"),
            Field("error", "string", "why the next event cannot be taken, or empty"),
        ),
    ),
    Field(
        "allocator",
        "object",
        "who leads",
        (
            Field("epoch", "integer", "how often the lead was taken"),
            Field("holder", "string", "who took it last, empty if nobody yet"),
        ),
    ),
    Field(
        "allocators",
        "[object]",
        "what each allocator said of itself last; none with --at",
        ALLOCATORS,
    ),
    Field(
        "enforcement",
        "string",
        "default (policies isolate), always (every pod is isolated) or never (nothing is enforced)",
    ),
    Field(
        "pods",
        "object",
        "how many pods are",
        (
            Field("bound", "integer", "bound to an identity"),
            Field("waiting", "integer", "waiting for a free number"),
            Field("refused", "integer", "refused"),
        ),
    ),
    Field(
        "exhausted",
        "object?",
        "while pods wait and no number is free; null otherwise",
        (
            Field("identities", "integer", "of pods, when numbers ran out"),
            Field(
                "heaviest",
                "[object]",
                "the label keys that make the most of them, most first",
                (
                    Field("key", "string", "source:key"),
                    Field("values", "integer", "how many different ones it has"),
                ),
            ),
        ),
    ),
    Field("nodes", "[object]", "as `get nodes`; with -l those that it takes", NODES),
    Field(
        "enforced",
        "integer?",
        "the lowest watermark of these nodes, but the Lost and the Refused; null if one said "
        "nothing or there are none",
    ),
    Field("diverged", "[string]", "those whose state is not what the ledger says"),
    Field("quarantined", "[string]", "STREAM/sequence of events that readers go on past"),
    Field(
        "cluster",
        "object?",
        "a cluster that runs on this machine",
        (
            Field("name", "string", "its name"),
            Field("mode", "string", "overlay or native"),
            Field("dataplane", "string", "ebpf or memory"),
            Field("pods", "string", "netns, memory or none"),
            Field("data", "string", "its state directory"),
            Field("http", "{string: string}", "addresses of its services' metrics and health"),
        ),
    ),
    Field(
        "bus",
        "object?",
        "the bus's servers, as each says of itself; null of the past and where they are not known",
        (
            Field("servers", "integer", "how many are known"),
            Field("answering", "integer", "how many of them gave an answer"),
            Field("faults", "[string]", "what is wrong with a server or what it stores"),
        ),
    ),
    Field("error", "string", "why the ledger is not read further, or empty"),
)

EVENT = (
    Field("stream", "string", "where it is stored"),
    Field("sequence", "integer", "its place there"),
    Field("subject", "string", "its subject on the bus"),
    Field("stored_at", "integer", "when the bus stored it"),
    Field("stored", "string", "the same in UTC (ISO 8601)"),
)
"""Of every stored message."""

READABLE = (
    *EVENT,
    Field("type", "string", "such as endpoint.bound"),
    Field("id", "string", "unique, in hexadecimal"),
    Field("key", "string", "the entity that it is about, such as a pod's UID"),
    Field("occurred_at", "integer", "when it happened, by its writer's clock"),
    Field("occurred", "string", "the same in UTC (ISO 8601)"),
    Field("cause", "string", "STREAM/sequence of what made it, empty for a first cause"),
    Field("correlation", "string", "id of the first event of the whole story"),
    Field("data", "any", "what the event says, by its type"),
)

UNREADABLE = (
    *EVENT,
    Field(
        "error",
        "object",
        "why it cannot be read",
        (
            Field("kind", "string", "what kind of fault"),
            Field("reason", "string", "what is wrong with it"),
        ),
    ),
    Field("bytes", "integer", "how long the payload is"),
    Field("raw", "string", "the payload's first 64 bytes in hexadecimal"),
)

CHAIN = Field(
    "chain",
    "string?",
    "why it does not follow from the event before it, or empty; null but for LEDGER",
)

WAITED = (
    Field("sequence", "integer", "LEDGER's that was waited for"),
    Field(
        "nodes",
        "[object]",
        "all nodes; one that is not live may not enforce it, and was not waited for",
        (
            Field("name", "string", "the node's name"),
            Field("watermark", "integer?", "LEDGER sequence that it enforces; null if unknown"),
            Field(
                "live",
                "boolean",
                "whether its agent spoke within the last 15 s, and did not say that it stops",
            ),
        ),
    ),
)

DRIFT = (
    Field(
        "sequence",
        "integer?",
        "with --at LEDGER's that kernels are held against; else null: each against its own",
    ),
    Field("stored_at", "integer?", "with --at when that event was stored; null before the first"),
    Field(
        "nodes",
        "[object]",
        "each node that was asked",
        (
            Field("node", "string", "its name"),
            Field("sequence", "integer?", "LEDGER's that it enforces; null if it was not reached"),
            Field("missing", "[string]", "entries that its kernel lacks"),
            Field("extra", "[string]", "entries that its kernel should not have"),
            Field("different", "[string]", "entries with another value"),
            Field(
                "entries",
                "[object]",
                "all of these in parts; of each of the three the first 1,000 are listed",
                (
                    Field("map", "string", "such as hosts, as `map_writes` of a node names it"),
                    Field("key", "string", "the entry's key"),
                    Field("held", "string?", "its value in the kernel; null if it is not there"),
                    Field("wanted", "string?", "what the ledger says; null if it is not to be"),
                ),
            ),
            Field("count", "integer", "how many entries differ in all"),
            Field("error", "string", "why it could not be asked, or empty"),
        ),
    ),
)
