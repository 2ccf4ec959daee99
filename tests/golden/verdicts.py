"""What the maps compiled from a state let pass, in lines that outlive the maps' form."""

from collections.abc import Iterable, Iterator

from tabard.dataplane.maps import Mode, Protocol, address
from tabard.dataplane.verdict import Judge, flow_verdict
from tabard.identity.numbers import is_cidr
from tabard.ledger.state import State
from tabard.policy.compile import Compiler
from world import attachment

OUTSIDE = ("203.0.113.9", "203.0.113.200", "8.8.8.8", "2001:db8::9", "2001:4860::8")
PORTS = (1, 53, 80, 1024, 65_535)
FLOWS_MAX = 4_000
"""Of more, only each second, third, … is asked."""


Flow = tuple[str, str, Protocol, int]
"""(source, destination, protocol, port)"""


def said(state: State, asked: Iterable[Flow]) -> Iterator[str]:
    """`source destination protocol/port verdicts`: by mode `+` or `-` of egress and of ingress, or
    `.` where no pod of the cluster stands."""
    judged = [judges(state, mode) for mode in Mode]
    for source, target, protocol, port in asked:
        found = [
            flow_verdict(nodes, address(source), address(target), protocol, port)
            for nodes in judged
        ]
        marks = [
            "." if reason is None else "+" if reason.allowed else "-"
            for verdict in found
            for reason in (verdict.egress, verdict.ingress)
        ]
        yield f"{source} {target} {protocol.name}/{port} {''.join(marks)}"


def asked(lines: Iterable[str]) -> Iterator[Flow]:
    """What these lines are about."""
    for line in lines:
        source, target, kind, _ = line.split()
        protocol, _, port = kind.partition("/")
        yield source, target, Protocol[protocol], int(port)


def flows(state: State) -> list[Flow]:
    """What may be asked of a state, FLOWS_MAX at most."""
    cast = _cast(state)
    every = [
        (source, target, protocol, port)
        for source in cast
        for target in cast
        if source != target and (":" in source) == (":" in target)
        for protocol in (Protocol.TCP, Protocol.UDP)
        for port in _ports(state)
    ]
    return every[:: len(every) // FLOWS_MAX + 1]


def judges(state: State, mode: Mode) -> dict[str, Judge]:
    """Of every node with all of its pods attached."""
    names = {uid: number for number, uid in enumerate(sorted(state.endpoints), 100)}
    return {
        node: Judge(
            Compiler().compile(
                state,
                node,
                mode,
                {uid: attachment(uid, names[uid]) for uid in state.by_node.get(node, ())},
            ),
            mode,
        )
        for node in state.nodes
    }


def _cast(state: State) -> list[str]:
    """Each pod's addresses, each node's first one, one of each CIDR that a policy names, others."""
    prefixes = [
        held.labels[0].removeprefix("cidr:").partition("/")[0]
        for number, held in state.identities.items()
        if is_cidr(number)
    ]
    nodes = [node.addresses[0] for node in state.nodes.values() if node.addresses]
    return sorted({*state.bindings, *nodes, *prefixes, *OUTSIDE})


def _ports(state: State) -> list[int]:
    named = {number for endpoint in state.endpoints.values() for _, number, _ in endpoint.ports}
    return sorted({*PORTS, *sorted(named)[:8]})
