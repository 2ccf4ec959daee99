"""Faults of the verdict on a packet, and of the flows that are remembered."""

from tabard.dataplane.conntrack import Conntrack, Flow
from tabard.dataplane.verdict import Judge
from tabard.invariants.verdict import Invariant
from tabard.simulator.faults.planting import Edit, Fault

FAULTS = (
    Fault(
        "unknown-is-world",
        "An address of which nothing is known counts as the world's",
        Invariant.NEVER_OPEN,
        (Edit(Judge.known, "return Reserved.UNKNOWN", "return Reserved.WORLD_IPV4"),),
        steps=500,
    ),
    Fault(
        "unknown-passes",
        "Whoever has no identity is let through where policies are enforced",
        Invariant.NEVER_OPEN,
        (Edit(Judge.verdict, "return Reason.DENIED_UNKNOWN_PEER", "return Reason.ALLOWED_HOST"),),
    ),
    Fault(
        "answers-outlive-rules",
        "What answers a flow passes by rules that are not in force any more",
        Invariant.NEVER_OPEN,
        (
            Edit(
                Conntrack._still,
                "if flow.is_current(endpoint, key.direction, peer):",
                "if True:",
            ),
        ),
        steps=500,
    ),
    Fault(
        "answers-reopen",
        "What answers a flow that is not allowed any more opens one the other way",
        Invariant.NEVER_OPEN,
        (
            Edit(
                Conntrack.enforce,
                "if not is_open and not _is_first(packet.tcp_flags):",
                "if False:",
            ),
        ),
        steps=500,
    ),
    Fault(
        "flows-outlive-pods",
        "A flow that a pod opened is open to the next pod at its address",
        Invariant.NEVER_OPEN,
        (
            Edit(
                Flow.is_alive,
                "self.incarnation == endpoint.incarnation and ",
                "",
            ),
        ),
        steps=500,
    ),
)
