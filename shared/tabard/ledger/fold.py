"""evolve: what each ledger event does to the state. Total, deterministic, and without judgement:
whatever the ledger says happened, happened."""

from collections.abc import Iterable
from typing import assert_never

from tabard.events import ledger as events
from tabard.events.envelope import Recorded
from tabard.events.observed import Pairs
from tabard.identity.labels import LabelSet, cidr_label, host_cidr
from tabard.identity.numbers import FIXED_MAX, FIXED_MIN
from tabard.ledger.state import (
    REFUSALS_MAX,
    TOMBSTONES_MAX,
    EndpointState,
    Identity,
    LostNode,
    Node,
    Relabel,
    State,
    shared,
)
from tabard.policy.model import PolicyError
from tabard.policy.reading import read_object

LedgerRecord = Recorded[events.LedgerEvent]


class FoldError(Exception):
    """The ledger contradicts itself, so its writer or its past is broken. Nothing was changed."""


def evolve(state: State, record: LedgerRecord) -> None:
    """Take one step, in place; FoldError if `record` is not the next or contradicts the state."""
    if record.sequence != state.sequence + 1 and not _only_quarantined_between(state, record):
        raise FoldError(f"{record.place} does not follow LEDGER/{state.sequence}")
    apply(state, record.event, record.sequence, record.envelope.occurred_at)
    state.sequence = record.sequence


def _only_quarantined_between(state: State, record: LedgerRecord) -> bool:
    return record.sequence > state.sequence and all(
        ("LEDGER", skipped) in state.quarantined
        for skipped in range(state.sequence + 1, record.sequence)
    )


def apply(state: State, event: events.LedgerEvent, sequence: int, at: int) -> None:
    """The effect of one event written at `sequence`, which occurred at `at` (ns)."""
    match event:  # from the top down: what is most of a ledger stands first
        case events.EndpointBound():
            _bind(state, event, sequence, at)
        case events.EndpointUnbound():
            _unbind(state, event.uid, sequence, at)
            _entomb(state, event.uid, sequence)
        case events.CursorAdvanced():
            state.cursors[event.stream] = event.sequence
        case events.EndpointRelabelled():
            endpoint = _endpoint(state, event.uid, sequence)
            endpoint.labels = shared(event.labels)
            _move(state, endpoint, event.identity, sequence, at)
        case events.RelabelPlanned():
            endpoint = _endpoint(state, event.uid, sequence)
            _plan(state, endpoint, event.identity, shared(event.labels), sequence, at)
        case events.EndpointsRebound():
            for endpoint, number in _moves(state, event.changes, sequence):
                _move(state, endpoint, number, sequence, at)
        case events.RebindPlanned():
            for endpoint, number in _moves(state, event.changes, sequence):
                _plan(state, endpoint, number, endpoint.labels, sequence, at)
        case events.EndpointTombstoned():
            state.waiting.pop(event.uid, None)
            state.refused_pods.pop(event.uid, None)
            _entomb(state, event.uid, sequence)
        case events.IdentityAllocated():
            _allocate(state, event.identity, LabelSet(tuple(map(shared, event.labels))), sequence)
            # It may never get a user (the pod stopped in the same batch): idle until then.
            _mark_idle(state, event.identity, at)
        case events.IdentityRetired():
            retired = state.identities.pop(event.identity, None)
            if retired is None:
                raise FoldError(f"LEDGER/{sequence} retires {event.identity}, which is not live")
            del state.numbers[retired.labels]
            state.idle.pop(event.identity, None)
            state.retired[event.identity] = sequence
        case events.IdentityReleased():
            retired_at = state.retired.pop(event.identity, None)
            if retired_at is not None and _is_doubtful(state, retired_at):
                state.doubtful[event.identity] = retired_at
        case events.NumbersExhausted():
            state.exhausted = event
        case events.NumbersAvailable():
            state.exhausted = None
        case events.EpochClaimed():
            state.epoch, state.holder = event.epoch, event.holder
        case events.SettingsAdopted():
            fixed = [
                (number, LabelSet(labels))
                for number, labels in event.fixed
                if number not in state.identities
            ]
            for number, labels in fixed:
                _check_free(state, number, labels, sequence)
            for number, labels in fixed:
                _allocate(state, number, labels, sequence)
            state.settings = event
        case events.NodeAdded():
            node = Node(event.name, event.addresses, event.pod_cidrs, shared(event.labels))
            _check_cidrs(node.cidrs(), sequence)
            left = state.nodes.get(event.name)
            state.nodes[event.name] = node
            state.refused_nodes.pop(event.name, None)
            _use_cidrs(state, left.cidrs() if left is not None else (), -1, at)
            _use_cidrs(state, node.cidrs(), +1, at)
        case events.NodeRemoved():
            left = state.nodes.pop(event.name, None)
            state.refused_nodes.pop(event.name, None)
            _use_cidrs(state, left.cidrs() if left is not None else (), -1, at)
            _find(state, event.name)
        case events.NodeRefused():
            state.refused_nodes[event.name] = event
            state.refused_nodes.move_to_end(event.name)
            if len(state.refused_nodes) > REFUSALS_MAX:
                state.refused_nodes.popitem(last=False)
        case events.NodeLost():
            state.lost[event.name] = LostNode(event.name, event.watermark, sequence)
        case events.NodeReturned():
            _find(state, event.name)
        case events.NamespaceLabelled():
            state.namespaces[event.name] = dict(event.labels)
        case events.NamespaceForgotten():
            state.namespaces.pop(event.name, None)
        case events.PodRefused():
            if event.retry:
                state.waiting[event.uid] = event
            else:
                state.waiting.pop(event.uid, None)
            state.refused_pods[event.uid] = event
            state.refused_pods.move_to_end(event.uid)
            if len(state.refused_pods) > REFUSALS_MAX:
                state.refused_pods.popitem(last=False)
        case events.PolicyAccepted():
            key = (event.kind, event.namespace, event.name)
            before, after = _cidrs(state.policies.get(key), sequence), _cidrs(event, sequence)
            state.policies[key] = event
            _use_cidrs(state, before, -1, at)
            _use_cidrs(state, after, +1, at)
            state.refused_policies.pop(key, None)
        case events.PolicyRefused():
            key = (event.kind, event.namespace, event.name)
            state.refused_policies[key] = event
            state.refused_policies.move_to_end(key)
            if len(state.refused_policies) > REFUSALS_MAX:
                state.refused_policies.popitem(last=False)
        case events.PolicyForgotten():
            key = (event.kind, event.namespace, event.name)
            _use_cidrs(state, _cidrs(state.policies.get(key), sequence), -1, at)
            state.policies.pop(key, None)
            state.refused_policies.pop(key, None)
        case events.WorkloadAccepted():
            state.workloads[(event.kind, event.namespace, event.name)] = event
        case events.WorkloadForgotten():
            state.workloads.pop((event.kind, event.namespace, event.name), None)
        case events.NameResolved():
            known = state.names.get(event.name, {})
            new = [host_cidr(address) for address, _ in event.addresses if address not in known]
            _check_cidrs(new, sequence)
            state.names.setdefault(event.name, {}).update(event.addresses)
            _use_cidrs(state, new, +1, at)
        case events.NameForgotten():
            held = state.names.get(event.name, {})
            gone = [address for address in event.addresses if held.pop(address, None) is not None]
            if not held:
                state.names.pop(event.name, None)
            _use_cidrs(state, map(host_cidr, gone), -1, at)
        case events.EventQuarantined():
            state.quarantined[(event.stream, event.sequence)] = event.reason
        case events.LedgerTrimmed():
            pass  # what was true stays true, also where the bus no longer has it
        case _:
            assert_never(event)


def fold(records: Iterable[LedgerRecord], state: State | None = None) -> State:
    """The state after `records` (an iterable of ledger records), from `state` or from nothing."""
    state = State() if state is None else state
    for record in records:
        evolve(state, record)
    return state


def _check_free(state: State, number: int, labels: LabelSet, sequence: int) -> None:
    if number in state.identities or labels in state.numbers:
        raise FoldError(
            f"LEDGER/{sequence} allocates {number} for {', '.join(labels)}, but "
            f"{number if number in state.identities else state.numbers[labels]} is live"
        )


def _allocate(state: State, number: int, labels: LabelSet, sequence: int) -> None:
    _check_free(state, number, labels, sequence)
    state.identities[number] = Identity(labels, sequence)
    state.numbers[labels] = number
    state.doubtful.pop(number, None)


def _bind(state: State, event: events.EndpointBound, sequence: int, at: int) -> None:
    if event.uid in state.endpoints:
        raise FoldError(f"LEDGER/{sequence} binds {event.uid}, which is bound already")
    for address in event.addresses:
        holder = state.endpoints.get(state.bindings.get(address, ""))
        if holder is not None:
            holder.addresses = tuple(held for held in holder.addresses if held != address)
        state.bindings[address] = event.uid
    state.endpoints[event.uid] = EndpointState(
        uid=event.uid,
        namespace=shared(event.namespace),
        name=event.name,
        node=shared(event.node),
        identity=event.identity,
        addresses=event.addresses,
        labels=shared(event.labels),
        started_at=event.started_at,
        service_account=shared(event.service_account),
        ports=shared(event.ports),
        owner=shared(event.owner),
        host_network=event.host_network,
        bound_at=sequence,
    )
    state.by_node.setdefault(event.node, {})[event.uid] = None
    state.by_namespace.setdefault(event.namespace, {})[event.uid] = None
    state.waiting.pop(event.uid, None)
    state.refused_pods.pop(event.uid, None)
    _use(state, event.identity, +1, at)


def _move(state: State, endpoint: EndpointState, identity: int, sequence: int, at: int) -> None:
    if endpoint.identity != identity:
        _use(state, endpoint.identity, -1, at)
        endpoint.identity = identity
        _use(state, identity, +1, at)
    endpoint.bound_at = sequence
    _forget_plan(state, endpoint.uid, at)


def _moves(
    state: State, changes: Iterable[tuple[str, int]], sequence: int
) -> list[tuple[EndpointState, int]]:
    return [(_endpoint(state, uid, sequence), number) for uid, number in changes]


def _plan(
    state: State, endpoint: EndpointState, identity: int, labels: Pairs, sequence: int, at: int
) -> None:
    uid = endpoint.uid
    before = state.relabels.get(uid)
    _use(state, identity, +1, at)
    _forget_plan(state, uid, at)
    since = at if before is None else before.since
    state.relabels[uid] = Relabel(uid, identity, labels, sequence, since)


def _forget_plan(state: State, uid: str, at: int) -> None:
    plan = state.relabels.pop(uid, None)
    if plan is not None:
        _use(state, plan.identity, -1, at)


def _is_doubtful(state: State, retired_at: int) -> bool:
    """Whether a lost node may still take a number that retired then for what it was."""
    return any(node.watermark < retired_at for node in state.lost.values())


def _find(state: State, name: str) -> None:
    """A lost node is none any more, and what it alone made doubtful is not either."""
    if state.lost.pop(name, None) is not None:
        state.doubtful = {
            number: retired_at
            for number, retired_at in state.doubtful.items()
            if _is_doubtful(state, retired_at)
        }


def _unbind(state: State, uid: str, sequence: int, at: int) -> None:
    endpoint = _endpoint(state, uid, sequence)
    del state.endpoints[uid]
    for address in endpoint.addresses:
        # A newer incarnation may hold the address by now; then it is not this one's to free.
        if state.bindings.get(address) == uid:
            del state.bindings[address]
    for index, key in ((state.by_node, endpoint.node), (state.by_namespace, endpoint.namespace)):
        index[key].pop(uid, None)
        if not index[key]:
            del index[key]
    _forget_plan(state, uid, at)
    _use(state, endpoint.identity, -1, at)


def _endpoint(state: State, uid: str, sequence: int) -> EndpointState:
    try:
        return state.endpoints[uid]
    except KeyError:
        raise FoldError(f"LEDGER/{sequence} speaks of endpoint {uid}, which is not bound") from None


def _entomb(state: State, uid: str, sequence: int) -> None:
    state.tombstones[uid] = sequence
    state.tombstones.move_to_end(uid)
    if len(state.tombstones) > TOMBSTONES_MAX:
        state.tombstones.popitem(last=False)


def _use(state: State, number: int, users: int, at: int) -> None:
    identity = state.identities.get(number)
    if identity is None:  # reserved numbers are never allocated and never retire
        return
    identity.users += users
    if identity.users == 0:
        _mark_idle(state, number, at)
    else:
        identity.idle_since = None
        state.idle.pop(number, None)


def _mark_idle(state: State, number: int, at: int) -> None:
    if FIXED_MIN <= number <= FIXED_MAX:  # the operator's: they stay
        return
    state.identities[number].idle_since = at
    state.idle.pop(number, None)
    state.idle[number] = None


def _cidrs(accepted: events.PolicyAccepted | None, sequence: int) -> list[str]:
    """The CIDRs that an accepted policy object names."""
    if accepted is None:
        return []
    try:
        return sorted(read_object(accepted.document, accepted.origin).cidrs())
    except PolicyError as error:
        raise FoldError(
            f"LEDGER/{sequence} accepts {accepted.kind} {accepted.namespace}/{accepted.name}, "
            f"which this release cannot read ({error})"
        ) from error


def _check_cidrs(cidrs: Iterable[str], sequence: int) -> None:
    for prefix in cidrs:
        try:
            cidr_label(prefix)
        except ValueError as error:
            raise FoldError(f"LEDGER/{sequence} has an address that is none: {error}") from error


def _use_cidrs(state: State, cidrs: Iterable[str], users: int, at: int) -> None:
    for prefix in cidrs:
        number = state.numbers.get(LabelSet((cidr_label(prefix),)))
        if number is not None:
            _use(state, number, users, at)
