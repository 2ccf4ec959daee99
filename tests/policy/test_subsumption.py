"""What one selector, CIDR or port says of another by its words."""

import pytest

from tabard.dataplane.maps import Direction, Protocol
from tabard.policy.model import ALL_PORTS, Cidr, Peer, Policy, Port, Requirement, Rule, Selector
from tabard.policy.subsumption import implied, narrower


def need(operator: str, *values: str, key: str = "app") -> Requirement:
    return Requirement(key, operator, frozenset(values))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (need("In", "a"), need("In", "a", "b"), True),
        (need("In", "a", "b"), need("In", "a"), False),
        (need("In", "a"), need("Exists"), True),
        (need("In", "a"), need("NotIn", "b"), True),
        (need("In", "a"), need("NotIn", "a", "b"), False),
        (need("NotIn", "a", "b"), need("NotIn", "a"), True),
        (need("NotIn", "a"), need("NotIn", "a", "b"), False),
        (need("DoesNotExist"), need("NotIn", "a"), True),
        (need("Exists"), need("NotIn", "a"), False),
        (need("In", "a"), need("In", "a", key="tier"), False),
    ],
)
def test_a_requirement_entails_what_all_that_meet_it_meet(
    one: Requirement, other: Requirement, expected: bool
) -> None:
    assert narrower(Selector((one,)), Selector((other,))) is expected
    assert narrower(Selector((one,)), Selector())


def allowing(peer: Peer | None, port: Port = ALL_PORTS[0]) -> Policy:
    peers = None if peer is None else (peer,)
    rule = Rule(Direction.INGRESS, peers, (port,), "spec.ingress[0]")
    isolates = frozenset((Direction.INGRESS,))
    return Policy("NetworkPolicy", "x", "p", Selector(), isolates, (rule,))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Cidr("10.1.0.0/16"), Cidr("10.0.0.0/8"), True),
        (Cidr("10.0.0.0/8"), Cidr("10.1.0.0/16"), False),
        (Cidr("10.1.0.0/16"), Cidr("10.0.0.0/8", ("10.1.1.0/24",)), False),
        (Cidr("10.1.0.0/16", ("10.1.0.0/17",)), Cidr("10.0.0.0/8", ("10.1.1.0/24",)), True),
        (Cidr("10.1.0.0/16"), Cidr("10.0.0.0/8", ("10.2.0.0/16",)), True),
        (Cidr("10.1.0.0/16"), Cidr("10.0.0.0/8", holds_members=False), False),
        (Cidr("10.1.0.0/16", holds_members=False), Cidr("10.0.0.0/8"), True),
        (Cidr("10.1.0.0/16"), Cidr("::/0"), False),
        (Cidr("10.1.0.0/16"), None, True),
        (None, Selector(), False),
    ],
)
def test_a_peer_is_implied_by_whoever_holds_all_of_it(
    one: Peer | None, other: Peer | None, expected: bool
) -> None:
    assert implied([allowing(one)], [allowing(other)]) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Port(Protocol.TCP, 80, 80), Port(Protocol.TCP, 1, 100), True),
        (Port(Protocol.TCP, 1, 100), Port(Protocol.TCP, 80, 80), False),
        (Port(Protocol.TCP, 80, 80), Port(Protocol.UDP), False),
        (Port(Protocol.TCP, name="web"), Port(Protocol.TCP), True),
        (Port(Protocol.TCP, name="web"), Port(Protocol.TCP, 1, 100), False),
        (Port(Protocol.TCP, name="web"), Port(Protocol.TCP, name="web"), True),
        (Port(Protocol.TCP, 80, 80), Port(Protocol.ANY), True),
        (Port(Protocol.UDP, 53, 53), Port(Protocol.UDP, 53, 53, lookups=frozenset({"a"})), False),
    ],
)
def test_a_port_is_implied_by_what_takes_all_of_it(one: Port, other: Port, expected: bool) -> None:
    assert implied([allowing(None, one)], [allowing(None, other)]) is expected


def test_isolation_is_implied_by_isolation_alone() -> None:
    denial = Policy("NetworkPolicy", "x", "d", Selector(), frozenset((Direction.INGRESS,)), ())
    other_way = Policy("NetworkPolicy", "x", "e", Selector(), frozenset((Direction.EGRESS,)), ())
    assert implied([denial], [allowing(None)])
    assert not implied([denial], [other_way])
    assert not implied([denial], [])
