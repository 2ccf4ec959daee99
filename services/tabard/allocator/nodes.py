"""Nodes: who is there, whom nobody waits for any more, and who must not join."""

from tabard.allocator.commands import Tick
from tabard.allocator.plan import Indexes, Refusal, check_size, number_cidrs
from tabard.events.ledger import (
    LedgerEvent,
    NodeAdded,
    NodeLost,
    NodeRefused,
    NodeRemoved,
    NodeReturned,
)
from tabard.events.observed import NodeJoined, NodeLeft
from tabard.ledger.state import Node, State


def join(state: State, indexes: Indexes, event: NodeJoined) -> list[LedgerEvent]:
    """A node, or another underlay address, pod CIDR or label of a known one.

    Each CIDR that it uses gets an identity first. One that claims what another node has, be that
    lost or not, or what no node may have is refused, since it would get the traffic for that.
    Refusal if it is too large.
    """
    node = Node(event.name, event.addresses, event.pod_cidrs, event.labels)
    if state.nodes.get(event.name) == node and event.name not in state.refused_nodes:
        return []
    if reason := _fault(indexes, node):
        facts = (event.name, event.addresses, event.pod_cidrs, event.labels)
        refused = NodeRefused(*facts, reason)
        check_size(refused)
        return [] if state.refused_nodes.get(event.name) == refused else [refused]
    return _added(state, indexes, node)


def leave(state: State, event: NodeLeft) -> list[LedgerEvent]:
    """Its addresses are free for others, whatever it still does."""
    known = event.name in state.nodes or event.name in state.refused_nodes
    return [NodeRemoved(event.name)] if known else []


def readmit(state: State, indexes: Indexes) -> list[LedgerEvent]:
    """A refused node that nothing stands in the way of any more."""
    for refused in state.refused_nodes.values():
        node = Node(refused.name, refused.addresses, refused.pod_cidrs, refused.labels)
        if not _fault(indexes, node):
            try:
                return _added(state, indexes, node)
            except Refusal:  # for want of numbers: it comes again
                continue
    return []


def judge(state: State, indexes: Indexes, tick: Tick, events_max: int) -> list[LedgerEvent]:
    """Nodes that got no further for too long, and lost ones that are back.

    Back is who enforces the ledger past the loss, and past every retirement whose number was
    released without it: until then it may take numbers for what they were.
    """
    words = indexes.watermarks
    released = max(state.doubtful.values(), default=0)
    found: list[LedgerEvent] = []
    for name in state.nodes:
        if len(found) == events_max:
            break
        lost, watermark = state.lost.get(name), words.of(name)
        if lost is None and words.still_ns(name) > tick.limits.node_lost_ns:
            found.append(NodeLost(name, watermark))
        elif lost is not None and watermark >= max(lost.lost_at, released):
            found.append(NodeReturned(name, watermark))
    return found


def _fault(indexes: Indexes, node: Node) -> str:
    """Why `node` may not join with what it claims; "" if it may."""
    if outside := indexes.claims.outside(node):
        return f"{outside} is outside of what nodes may have (TABARD_NODE_RANGES of allocators)"
    if clash := indexes.claims.clash(node):
        return f"{clash}; give it its own, or take out the other if it is gone: tabard delete node"
    return ""


def _added(state: State, indexes: Indexes, node: Node) -> list[LedgerEvent]:
    added = NodeAdded(node.name, node.addresses, node.pod_cidrs, node.labels)
    check_size(added)
    return [*number_cidrs(state, indexes, node.cidrs()), added]
