"""The simulator's checkers: silent on a cluster that is right, each loud on one that is not."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from itertools import count

import pytest

from checked import what
from tabard.dataplane.maps import Endpoint, EndpointFlag, Reason, address
from tabard.events.ledger import (
    EndpointRelabelled,
    IdentityAllocated,
    IdentityReleased,
    RelabelPlanned,
)
from tabard.invariants.verdict import Invariant, Violation
from tabard.simulator.checkers import Checker, every
from tabard.simulator.checkers.control import PATIENCE_NS, OutlivesControl
from tabard.simulator.checkers.convergence import Convergence
from tabard.simulator.checkers.folds import Folds, Same
from tabard.simulator.checkers.ledger import Effects, Fence, Kept, Reuse, Sets
from tabard.simulator.checkers.openness import NeverOpen
from tabard.simulator.checkers.order import Order
from tabard.simulator.history import run
from tabard.simulator.world import Acknowledged, Append, Judged, Node, Packet, World

STEPS = 200
SENDERS_MIN = 3
"""Pods that may send to anybody, so that one is another than the one they send to."""


class Last:
    """Keeps the world as it was left."""

    invariant = Invariant.CONVERGENCE

    def check(self, world: World) -> list[Violation]:
        return []

    def finish(self, world: World) -> list[Violation]:
        self.world = world
        return []


@cache
def _left() -> World:
    """What the first history leaves that has all that the tests ask for."""
    for seed in count():
        world = _end_of(seed)
        released = any(isinstance(one.event, IdentityReleased) for one in world.records)
        if world.settings.enforcement != "default":
            continue  # nobody may send to anybody
        nodes = world.nodes.values()
        pods = [one for node in nodes for one in _pods(node).values()]
        senders = [one for one in pods if EndpointFlag.EGRESS_ISOLATED not in one.flags]
        if released and len(senders) >= SENDERS_MIN and any(map(_isolated, nodes)):
            return world
    raise AssertionError("unreachable")


def _end_of(seed: int) -> World:
    last = Last()
    outcome = run(seed, STEPS, checkers=lambda: [last])
    assert not outcome.found
    return last.world


def _isolated(node: Node) -> str:
    """The UID of a pod that policies isolate on ingress, from some peers at least, and whose rule
    set has entries."""
    ruled = {key.policy for key in node.maps.policies}
    for uid, one in _pods(node).items():
        is_open = one.stale_after_s != 0  # by the policy that is bounded, everybody may
        if EndpointFlag.INGRESS_ISOLATED in one.flags and one.policy in ruled and not is_open:
            return uid
    return ""


@pytest.fixture
def world() -> World:
    """A cluster that has come to rest, with pods and policies."""
    world = deepcopy(_left())
    world.packets.clear()
    assert world.converged
    return world


def _pods(node: Node) -> dict[str, Endpoint]:
    """Its pods that the ledger has bound, by UID."""
    return {
        uid: node.maps.endpoints[address(node.state.endpoints[uid].addresses[0])]
        for uid in node.attached
        if uid in node.state.endpoints
    }


def _busy(world: World) -> Node:
    return next(node for node in world.nodes.values() if _isolated(node))


def found(checker: Checker, world: World) -> list[str]:
    said = what([*checker.check(world), *checker.finish(world)])
    assert all(one.invariant is checker.invariant for one in checker.check(world))
    return said


@pytest.mark.parametrize("checker", every(), ids=lambda checker: type(checker).__name__)
def test_a_cluster_that_is_right_is_found_right(checker: Checker, world: World) -> None:
    assert found(checker, world) == []


def test_an_entry_that_is_missing_from_the_maps_is_found(world: World) -> None:
    node = _busy(world)
    node.maps.endpoints.popitem()  # type: ignore[attr-defined]
    said = found(Folds(), world)
    assert said
    assert f"{node.name}'s maps are not those of LEDGER/{node.enforced}" in said[0]


def test_a_watermark_that_rises_amid_a_write_is_found(world: World) -> None:
    checker, node = Folds(), _busy(world)
    node.is_writing, node.settled = True, False
    node.maps.endpoints.popitem()  # type: ignore[attr-defined]
    node.enforced -= 1
    assert what(checker.check(world)) == []
    node.enforced += 1
    (one,) = what(checker.check(world))
    assert f"{node.name}'s maps are not those of LEDGER/{node.enforced}" in one


def test_a_process_that_folded_something_else_is_found(world: World) -> None:
    node = next(iter(world.nodes.values()))
    node.state.namespaces["ghost"] = {}
    (one,) = found(Same(), world)
    assert f"by {node.name}" in one


def _amid_a_write(node: Node, late: Iterable[int] = ()) -> None:
    node.is_writing, node.settled, node.late = True, False, frozenset(late)
    node.writes += 1


def test_an_endpoint_whose_rules_are_not_all_there_is_found(world: World) -> None:
    checker, node = Order(), _busy(world)
    assert what(checker.check(world)) == []
    _amid_a_write(node)
    policy = _pods(node)[_isolated(node)].policy
    gone = next(key for key in node.maps.policies if key.policy == policy)
    del node.maps.policies[gone]  # type: ignore[attr-defined]
    said = what(checker.check(world))
    assert any(f"leads to rule set {policy:016x}" in one for one in said)


def test_an_address_whose_identity_is_not_known_is_found_unless_it_is_to_be_late(
    world: World,
) -> None:
    node = _busy(world)
    number = next(iter(_pods(node).values())).identity
    node.maps.identities.discard(number)  # type: ignore[attr-defined]
    _amid_a_write(node, late={number})
    assert not any("not known" in one for one in what(Order().check(world)))
    node.late = frozenset({number + 1})
    assert any("not known" in one for one in what(Order().check(world)))


def _packet(world: World, *, passed: bool) -> Packet:
    """From outside of the cluster to an isolated pod, on a port that no policy names."""
    node = _busy(world)
    uid = _isolated(node)
    here = node.state.endpoints[uid]
    at = node.enforced
    judged = [
        Judged(hook, node.name, 1, 1, passed, Reason.ALLOWED_POLICY, 0, at, at, True)
        for hook in ("from_overlay", "to_pod")
    ]
    ends = ("", "", "192.0.2.9", here.addresses[0], uid)
    return Packet(*ends, 6, 40_001, 9, 1, 1, passed, 1, False, tuple(judged))


def test_a_packet_that_no_state_would_have_let_is_found(world: World) -> None:
    node = _busy(world)
    uid = _isolated(node)
    sender = next(one for each, one in node.state.endpoints.items() if each != uid)
    ends = {"source": sender.uid, "source_address": sender.addresses[0]}
    world.packets.append(replace(_packet(world, passed=False), **ends))
    assert what(NeverOpen().check(world)) == []
    world.packets[:] = [replace(_packet(world, passed=True), **ends)]
    (one,) = what(NeverOpen().check(world))
    assert "which no state of these would have let" in one


def test_a_strangers_packet_is_found_whatever_policies_let_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NeverOpen, "_may_pass", lambda *_: True)
    world.packets.append(_packet(world, passed=True))
    assert len(what(NeverOpen().check(world))) == 1


def test_maps_that_change_without_an_agent_are_found(world: World) -> None:
    checker, node = OutlivesControl(), _busy(world)
    node.running = False
    world.packets.append(_packet(world, passed=False))
    assert what(checker.check(world)) == what(checker.check(world)) == []
    node.maps.hosts.clear()  # type: ignore[attr-defined]
    (one,) = what(checker.check(world))
    assert f"{node.name}'s maps are others than when its agent ended" in one


def test_an_agent_that_takes_its_maps_along_when_it_ends_is_found(world: World) -> None:
    checker, node = OutlivesControl(), _busy(world)
    assert what(checker.check(world)) == []
    node.running = False
    node.maps.hosts.clear()  # type: ignore[attr-defined]
    (one,) = what(checker.check(world))
    assert f"{node.name}'s agent ended without a write" in one


def test_a_node_without_power_loses_its_maps(world: World) -> None:
    checker, node = OutlivesControl(), _busy(world)
    assert what(checker.check(world)) == []
    node.running = False
    node.maps.hosts.clear()  # type: ignore[attr-defined]
    world.counts["reboot"] += 1
    assert what(checker.check(world)) == []


def test_a_node_that_is_not_at_the_ledgers_end_is_found(world: World) -> None:
    node = next(iter(world.nodes.values()))
    node.enforced -= 1
    (one,) = found(Convergence(), world)
    assert f"{node.name} enforces LEDGER/{node.enforced}" in one


def test_a_policy_that_the_kernels_do_not_have_is_found(world: World) -> None:
    node = _busy(world)
    uid = _isolated(node)
    at = address(node.state.endpoints[uid].addresses[0])
    open_to_all = replace(node.maps.endpoints[at], flags=EndpointFlag(0))
    node.maps.endpoints[at] = open_to_all  # type: ignore[index]
    said = found(Convergence(), world)
    assert any(uid in one and "passes, which is not what the policies" in one for one in said)


def test_a_pod_that_waits_though_its_node_knows_its_labels_is_found(world: World) -> None:
    checker, node = OutlivesControl(), _busy(world)
    pod = next(one for one in world.pods.values() if one.started.node == node.name)
    started = replace(pod.started, uid="new", addresses=("10.244.9.9",))
    like = next(iter(node.state.endpoints.values()))
    started = replace(started, namespace=like.namespace, labels=like.labels)
    world.pods["new"] = replace(pod, started=started, labels=like.labels, running=True)
    world.pods["new"].attached = False
    assert what(checker.check(world)) == []
    world.now += PATIENCE_NS + 1
    (one,) = what(checker.check(world))
    assert f"{node.name} knows the label set of pod new" in one
    node.standing = "waiting"
    assert what(checker.check(world)) == []


@pytest.mark.parametrize(
    ("waited_ms", "skews", "behind", "violations"),
    [(-1, 0, ("n1",), 1), (0, 0, ("n1",), 0), (-1, 1, ("n1",), 0), (-1, 0, (), 0)],
    ids=["too soon", "in time", "a clock jumped", "nobody is behind"],
)
def test_a_leader_that_does_not_wait_for_those_who_are_behind_is_found(
    world: World, waited_ms: int, skews: int, behind: tuple[str, ...], violations: int
) -> None:
    checker = Reuse()
    assert what(checker.check(world)) == []
    world.counts["skew"] = skews
    last = world.records[-1]
    pod = next(iter(_pods(_busy(world))))
    number = _busy(world).state.endpoints[pod].identity
    moved_at = (world.relabel_timeout_ms + waited_ms) * 1_000_000
    for at, event in (
        (0, RelabelPlanned(pod, number, ())),
        (moved_at, EndpointRelabelled(pod, number, (), behind)),
    ):
        envelope = replace(last.envelope, occurred_at=last.envelope.occurred_at + at)
        sequence = world.records[-1].sequence + 1
        world.records.append(replace(last, sequence=sequence, envelope=envelope, event=event))
    assert len(what(checker.check(world))) == violations


def test_a_batch_of_somebody_else_is_found(world: World) -> None:
    stored = [one for one in world.appends if one.stored]
    at = world.appends.index(stored[-1])
    world.appends[at] = replace(stored[-1], holder="nobody/1")
    (one,) = found(Fence(), world)
    assert "nobody/1 of epoch" in one


def test_a_follower_that_folded_what_was_never_written_is_found(world: World) -> None:
    allocator = next(one for one in world.allocators.values() if one.role == "following")
    allocator.state.chain = bytes(16)
    (one,) = found(Fence(), world)
    assert f"{allocator.holder}, which follows, holds LEDGER/{allocator.state.sequence}" in one


def test_a_refused_batch_is_nobodys(world: World) -> None:
    refused = Append("a9", "a9/1", 1, 0, 3, stored=False, step=1)
    world.appends.insert(0, refused)
    assert found(Fence(), world) == []


def test_an_acknowledged_event_that_is_not_there_is_found(world: World) -> None:
    last = world.acknowledged[-1]
    gone = Acknowledged(len(world.observed) + 1, "", b"gone", last.event, 0, 0)
    world.acknowledged.append(gone)
    (one,) = found(Kept(), world)
    assert f"OBSERVED/{gone.sequence} was acknowledged, and is not there any more" in one


def test_a_ledger_that_a_node_alone_has_is_found(world: World) -> None:
    node = next(iter(world.nodes.values()))
    node.state.chain = bytes(16)
    assert any(
        "is another event than the one that was shown" in one for one in found(Kept(), world)
    )


def test_what_is_never_decided_is_found(world: World) -> None:
    stored = world.observed[-1]
    sequence = len(world.observed) + 1
    world.observed.append(replace(stored, sequence=sequence))
    world.heard.append(replace(world.heard[-1], sequence=sequence))
    assert any("and OBSERVED goes on to" in one for one in found(Effects(), world))


def test_a_batch_without_its_cursor_is_found(world: World) -> None:
    at, last = [(at, one) for at, one in enumerate(world.appends) if one.stored][-1]
    world.appends[at] = replace(last, messages=last.messages - 1)
    assert any("without the cursor" in one for one in found(Effects(), world))


def test_numbers_that_no_node_spoke_of_are_found(world: World) -> None:
    world.words.clear()
    assert any("said 0 last" in one for one in found(Reuse(), world))


def test_a_number_with_two_sets_is_found(world: World) -> None:
    at, record = next(
        (at, one)
        for at, one in enumerate(world.records)
        if isinstance(one.event, IdentityAllocated)
    )
    world.records.insert(at + 1, replace(record, event=replace(record.event, labels=("k8s:x=y",))))
    assert any("holds it" in one for one in found(Sets(), world))
