"""Policies as values, for tests: a kind of object that only they read.

So all that the model can say is put to those who work on it, whichever documents say it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import strategies as st

from strategies import CIDRS, KEYS, PORT_NAMES, PORTS, PROTOCOLS, VALUES, ip_blocks
from tabard.dataplane.maps import Action, Direction, Protocol, Tier
from tabard.policy import reading
from tabard.policy.model import (
    ALL_PORTS,
    ANY_SOURCE,
    Cidr,
    CidrGroup,
    Peer,
    Policy,
    Port,
    Requirement,
    Rule,
    Selector,
)
from tabard.policy.reading import PolicyObject
from tabard.policy.referents import CidrSet

KIND, API_VERSION = "Stated", "tabard.test/v1"
GROUPS = ("g", "h")
_stated: list[PolicyObject] = []


def document(found: PolicyObject) -> dict[str, Any]:
    """A document that states `found`, whose kind must be KIND."""
    assert found.kind == KIND
    if found not in _stated:
        _stated.append(found)
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"namespace": found.namespace, "name": found.name},
        "spec": {"number": _stated.index(found)},
    }


def _read(given: Mapping[str, Any], origin: str) -> PolicyObject:
    return _stated[given["spec"]["number"]]


@pytest.fixture(autouse=True, scope="module")
def stated_policies() -> Iterator[None]:
    """Import it where documents of KIND are to be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(reading._READERS, KIND, ((API_VERSION,), _read))
        yield


def _selectors(draw: st.DrawFn, *, everyone: bool) -> Selector:
    own = st.builds(
        Requirement,
        st.sampled_from(KEYS),
        st.sampled_from(["In", "NotIn"]),
        st.frozensets(st.sampled_from(VALUES), min_size=1, max_size=2),
        st.sampled_from(["k8s", ANY_SOURCE]),
    )
    has = st.builds(
        Requirement,
        st.sampled_from(KEYS),
        st.sampled_from(["Exists", "DoesNotExist"]),
        source=st.sampled_from(["k8s", ANY_SOURCE]),
    )
    reserved = st.sampled_from(
        [
            Requirement("world", "Exists", source="reserved"),
            Requirement("world-ipv6", "DoesNotExist", source="reserved"),
            Requirement("host", "Exists", source="reserved"),
            Requirement("remote-node", "Exists", source=ANY_SOURCE),
            Requirement(CIDRS[1], "Exists", source="cidr"),
        ]
    )
    needs = own | has | reserved if everyone else own | has
    return Selector(tuple(draw(st.lists(needs, max_size=2))))


@st.composite
def _peers(draw: st.DrawFn) -> Peer:
    match draw(st.sampled_from(["selector", "selector", "cidr", "group"])):
        case "selector":
            return _selectors(draw, everyone=True)
        case "cidr":
            block = draw(ip_blocks())["ipBlock"]
            excepts = tuple(sorted(set(block["except"])))
            return Cidr(block["cidr"], excepts, draw(st.booleans()))
        case _:
            return CidrGroup(
                draw(st.sampled_from(GROUPS)), excepts=draw(st.just(()) | st.just(CIDRS[2:3]))
            )


_numbers = st.sampled_from((*PORTS, 0, 65_535))
_ports = st.one_of(
    st.just(Port(Protocol.ANY)),
    st.tuples(st.sampled_from(PROTOCOLS), _numbers, _numbers).map(
        lambda given: Port(Protocol[given[0]], *sorted(given[1:]))
    ),
    st.builds(
        lambda protocol, name: Port(Protocol[protocol], name=name),
        st.sampled_from(PROTOCOLS),
        st.sampled_from(PORT_NAMES),
    ),
)
ACTIONS = {
    Tier.ADMIN: (Action.ALLOW, Action.DENY, Action.PASS),
    Tier.NETWORK: (Action.ALLOW, Action.ALLOW, Action.DENY),
    Tier.BASELINE: (Action.ALLOW, Action.DENY),
}


@st.composite
def _rules(draw: st.DrawFn, tier: Tier, path: str) -> Rule:
    action = draw(st.sampled_from(ACTIONS[tier]))
    peers = draw(st.none() | st.lists(_peers(), max_size=2).map(tuple))
    ports = draw(st.just(ALL_PORTS) | st.lists(_ports, min_size=1, max_size=3).map(tuple))
    if tier is Tier.NETWORK and action is Action.ALLOW and draw(st.booleans()):
        ports += (Port(Protocol.UDP, 81, 81, lookups=frozenset({"*.test"})),)
    paths = tuple(f"peers[{at}]" for at in range(len(peers or ())))
    direction = draw(st.sampled_from(Direction))
    return Rule(direction, peers, ports, path, action, peer_paths=paths)


@st.composite
def objects(draw: st.DrawFn) -> PolicyObject:
    """Objects of one or two policies in any tier, that may say anything."""
    tier = draw(st.sampled_from(Tier))
    namespace, name = draw(st.sampled_from(("", "x"))), draw(st.sampled_from(("s", "t", "u")))
    priority = draw(st.integers(0, 2)) if tier is Tier.ADMIN else 0
    isolating = st.frozensets(st.sampled_from(Direction))
    policies = []
    for number in range(draw(st.integers(1, 2))):
        section = f"specs[{number}]"
        rules = st.integers(0, 3).flatmap(
            lambda count, section=section: st.tuples(
                *(_rules(tier, f"{section}.rules[{at}]") for at in range(count))
            )
        )
        policies.append(
            Policy(
                KIND,
                namespace,
                name,
                _selectors(draw, everyone=False),
                draw(isolating) if tier is Tier.NETWORK else frozenset(),
                draw(rules),
                tier=tier,
                priority=priority,
                section=section,
                selects_nodes=draw(st.integers(0, 9)) == 0,
            )
        )
    return PolicyObject(KIND, namespace, name, tuple(policies))


groups = st.builds(
    lambda name, prefixes: PolicyObject(
        KIND, "", name, referent=CidrSet(name, prefixes=tuple(sorted(prefixes)))
    ),
    st.sampled_from(GROUPS),
    st.frozensets(st.sampled_from(CIDRS), max_size=3),
)
"""What policies may refer to."""
