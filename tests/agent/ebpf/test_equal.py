"""The kernel and the memory dataplane are equal: same action, reason, mark, events and counters.

Random policies, compiled, and maps of no sense at all; random packets, and changes between them.
EQUAL_EXAMPLES in the environment says how many of each kind and mode (default 50).
"""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import traffic
from kernel import Kernel
from packets import arp
from strategies import NAMESPACES, named_ports, specs
from strategies import labels as label_maps
from tabard.dataplane.maps import (
    Address,
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    Mode,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    address,
    address_text,
)
from tabard.netns import enter
from tabard.policy.compile import Attachment
from topology import ip
from traffic import IFINDEXES, LOCAL, NODES, OUTSIDE, PARTIES, REMOTE, Change, Player, Step
from twins import Twins, tunnelled_sources
from world import Ports, World, network_policy

pytestmark = pytest.mark.ebpf

EXAMPLES = int(os.environ.get("EQUAL_EXAMPLES", "50"))
examples = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tunnelled_sources(tmp_path_factory.mktemp("bpf"))


@pytest.fixture(scope="module")
def links() -> Iterator[str]:
    """A namespace with an interface of each number that the traffic knows."""
    namespace = f"tbe{os.getpid()}{secrets.token_hex(3)}"
    enter.create(namespace, lambda: None)
    try:
        ip(
            namespace,
            *(f"link add l{n} index {n} type veth peer name p{n}" for n in IFINDEXES),
        )
        yield namespace
    finally:
        enter.delete(namespace)


@pytest.fixture(scope="module")
def kernels(sources: Path) -> Iterator[dict[Mode, Kernel]]:
    made: dict[Mode, Kernel] = {}
    try:
        for mode in Mode:
            made[mode] = Kernel(mode, sources=sources)
        yield made
    finally:
        for kernel in made.values():
            kernel.remove()


modes = pytest.mark.parametrize("mode", Mode)


# ---- compiled policies


IPV6 = {
    "10.0.0.0/8": "fd10::/16",
    "10.1.0.0/16": "fd10:1::/32",
    "10.1.1.0/24": "fd10:1:1::/48",
    "10.1.1.7/32": "fd10:1:1::7/128",
    "10.2.0.0/15": "fd10:2::/31",
    "0.0.0.0/0": "::/0",
}
"""IPv6's share of the strategies' CIDRs."""


def in_ipv6(spec: Any) -> Any:
    match spec:
        case dict():
            return {key: in_ipv6(value) for key, value in spec.items()}
        case list():
            return [in_ipv6(value) for value in spec]
        case str():
            return IPV6.get(spec, spec)
    return spec


PodFacts = tuple[str, dict[str, str], Ports]
pods = st.lists(
    st.tuples(st.sampled_from(NAMESPACES), label_maps, named_ports), min_size=5, max_size=5
)
policies = st.tuples(
    st.just("policy"),
    st.sampled_from(NAMESPACES),
    st.sampled_from(["p", "q"]),
    specs | specs.map(in_ipv6),
)
happenings = st.one_of(
    policies,
    st.tuples(st.just("forget"), st.sampled_from(NAMESPACES), st.sampled_from(["p", "q"])),
    st.tuples(st.just("relabel"), st.integers(0, 4), label_maps),
    st.tuples(st.just("restart"), st.integers(0, 4), label_maps),
    st.tuples(st.just("namespace"), st.sampled_from(NAMESPACES), label_maps),
)


class Cluster:
    """A ledger with the traffic's parties, compiled for the first node after each change."""

    def __init__(self, twins: Twins, mode: Mode, found: list[PodFacts]) -> None:
        self._twins, self._mode, self._found = twins, mode, found
        self._world = World(nodes=0)
        for n, addresses in enumerate(NODES[:2], start=1):
            cidrs = (f"10.244.{n}.0/24", f"fd10:f4:{n}::/48")
            self._world.node(f"n{n}", addresses, cidrs)
        self._uids = [f"{n}-0" for n in range(len(found))]
        for n, (_, labels, _) in enumerate(found):
            self._start(n, labels)
        self._put()

    def _start(self, n: int, labels: dict[str, str]) -> None:
        namespace, _, ports = self._found[n]
        uid = self._uids[n]
        is_local = n < len(LOCAL)
        if is_local:
            self._world.ifindexes[uid] = IFINDEXES[n]
        self._world.pod(
            f"{namespace}/p{n}",
            labels,
            node="n1" if is_local else "n2",
            ip=(*LOCAL, *REMOTE)[n],
            ports=ports,
            uid=uid,
        )

    def change(self, what: tuple[Any, ...]) -> None:
        world = self._world
        match what:
            case "policy", namespace, name, spec:
                world.policy(network_policy(name, namespace, **spec))
            case "forget", namespace, name:
                if ("NetworkPolicy", namespace, name) in world.state.policies:
                    world.forget(namespace, name)
            case "relabel", n, labels:
                world.relabel(self._uids[n], labels)
            case "restart", n, labels:
                world.stop(self._uids[n])
                self._uids[n] += "x"
                self._start(n, labels)
            case "namespace", name, labels:
                world.namespace(name, labels)
        self._put()

    def who(self, place: Address) -> int:
        """The identity that other nodes know for an address."""
        uid = self._world.state.bindings.get(address_text(place))
        return 300 if uid is None else self._world.state.endpoints[uid].identity

    def _put(self) -> None:
        self._twins.put(self._world.judge("n1", self._mode).maps)


@modes
@examples
@given(
    found=pods,
    first=st.lists(policies, max_size=4),
    steps=traffic.steps(happenings),
)
def test_compiled_policies(
    kernels: dict[Mode, Kernel],
    links: str,
    mode: Mode,
    found: list[PodFacts],
    first: list[Any],
    steps: list[Step],
) -> None:
    def play() -> None:
        twins = Twins(kernels[mode], mode)
        cluster = Cluster(twins, mode, found)
        for what in first:
            cluster.change(what)
        player = Player(twins, cluster.who, cluster.change)
        with twins.told_the_same():
            for step in steps:
                player.play(step)

    enter.call(links, play)


# ---- maps that no compiler makes


numbers = st.sampled_from(traffic.SENDERS)
places = st.sampled_from([place for pair in PARTIES for place in pair])


@st.composite
def policy_keys(draw: st.DrawFn) -> PolicyKey:
    policy, direction = draw(st.sampled_from([1, 2])), draw(st.sampled_from(Direction))
    key = PolicyKey(policy, direction, draw(numbers), Protocol.ANY)
    protocol = draw(st.sampled_from(Protocol))
    if protocol is Protocol.ANY:
        return key
    bits = draw(st.sampled_from([0, 3, 8, 16]))
    port = draw(st.sampled_from([*traffic.TRANSPORT_PORTS, 8, 128, 0]))
    return replace(key, protocol=protocol, port=port & (0xFFFF << (16 - bits)), port_bits=bits)


@st.composite
def prefix_keys(draw: st.DrawFn) -> tuple[Address, int]:
    bits = draw(st.sampled_from([0, 16, 32, 48, 96, 104, 112, 120, 128]))
    number = int.from_bytes(draw(places)) >> (128 - bits) << (128 - bits)
    return Address(number.to_bytes(16)), bits


local_endpoints = st.builds(
    Endpoint,
    incarnation=st.sampled_from([1, 2]),
    identity=numbers.filter(lambda number: number < 1 << 24),
    policy=st.sampled_from([1, 2]),
    flags=st.builds(EndpointFlag, st.integers(0, 15)),
    ifindex=st.sampled_from(IFINDEXES),
    mac=st.just(b"\2\0\0\0\0\1"),
    host_mac=st.just(b"\6\0\0\0\0\1"),
)
wild = st.builds(
    Maps,
    identities=st.frozensets(numbers, min_size=4),
    policies=st.frozensets(policy_keys(), max_size=20),
    nodes=st.frozensets(places, max_size=4),
    prefixes=st.dictionaries(
        prefix_keys(),
        st.builds(
            PrefixEntry,
            numbers,
            st.builds(PrefixFlag, st.integers(0, 3)),
            st.just(b"") | st.sampled_from([address(NODES[1][0]), address(NODES[1][1])]),
        ),
        max_size=8,
    ),
    hosts=st.dictionaries(places, numbers, max_size=8),
    endpoints=st.dictionaries(places, local_endpoints, min_size=2, max_size=8),
)


@modes
@examples
@given(worlds=st.lists(wild, min_size=3, max_size=3), steps=traffic.steps(st.integers(0, 2)))
def test_maps_of_no_sense(
    kernels: dict[Mode, Kernel], links: str, mode: Mode, worlds: list[Maps], steps: list[Step]
) -> None:
    def play() -> None:
        twins = Twins(kernels[mode], mode)
        twins.put(worlds[0])
        player = Player(
            twins, lambda place: twins.maps.hosts.get(place, 300), lambda n: twins.put(worlds[n])
        )
        with twins.told_the_same():
            for step in steps:
                player.play(step)

    enter.call(links, play)
