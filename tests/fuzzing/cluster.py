"""A random cluster of the traffic's parties: its ledger, the maps of both nodes, and the oracle's
facts. What happens in it is plain data, so that it can be written down."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

import oracle
from strategies import NAMESPACES, biting_specs, named_ports, specs
from strategies import labels as label_maps
from tabard.dataplane.maps import Address, Maps, Mode, address_text
from tabard.dataplane.verdict import Judge
from tabard.policy.engine import Engine
from traffic import IFINDEXES, LOCAL, NODES, REMOTE
from world import World, network_policy

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


PODS = (*LOCAL, *REMOTE)
PodFacts = Sequence[Any]
"""[namespace, labels, [[name, number, protocol], …]]"""
Happening = Sequence[Any]
"""["policy", namespace, name, spec], ["forget", namespace, name], ["relabel", pod, labels],
["restart", pod, labels] or ["namespace", name, labels]"""

pods = st.lists(
    st.tuples(st.sampled_from(NAMESPACES), label_maps, named_ports),
    min_size=len(PODS),
    max_size=len(PODS),
)
policies = st.tuples(
    st.just("policy"),
    st.sampled_from(NAMESPACES),
    st.sampled_from(["p", "q"]),
    (specs | biting_specs | biting_specs).flatmap(
        lambda spec: st.sampled_from([spec, in_ipv6(spec)])
    ),
)
_numbers = st.integers(0, len(PODS) - 1)
happenings = st.one_of(
    policies,
    st.tuples(st.just("forget"), st.sampled_from(NAMESPACES), st.sampled_from(["p", "q"])),
    st.tuples(st.just("relabel"), _numbers, label_maps),
    st.tuples(st.just("restart"), _numbers, label_maps),
    st.tuples(st.just("namespace"), st.sampled_from(NAMESPACES), label_maps),
)


class Cluster:
    """Pods 0 to 2 are on n1, whose maps `put` gets after each change; the others on n2."""

    def __init__(self, mode: Mode, found: Sequence[PodFacts], put: Callable[[Maps], None]) -> None:
        self.mode = mode
        self.namespaces: oracle.Namespaces = {name: {} for name in NAMESPACES}
        self.policies: dict[tuple[str, str], dict[str, Any]] = {}
        self._put = put
        self._found = found
        self._labels = [dict(labels) for _, labels, _ in found]
        self._world = World(nodes=0)
        for n, addresses in enumerate(NODES[:2], start=1):
            cidrs = (f"10.244.{n}.0/24", f"fd10:f4:{n}::/48")
            self._world.node(f"n{n}", addresses, cidrs)
        self._uids = [f"{n}-0" for n in range(len(found))]
        for n in range(len(found)):
            self._start(n)
        self._compile()

    def _ports(self, n: int) -> tuple[tuple[str, int, str], ...]:
        return tuple((name, number, protocol) for name, number, protocol in self._found[n][2])

    def _start(self, n: int) -> None:
        uid, is_local = self._uids[n], n < len(LOCAL)
        if is_local:
            self._world.ifindexes[uid] = IFINDEXES[n]
        self._world.pod(
            f"{self._found[n][0]}/p{n}",
            self._labels[n],
            node="n1" if is_local else "n2",
            ip=PODS[n],
            ports=self._ports(n),
            uid=uid,
        )

    def change(self, what: Happening) -> None:
        world = self._world
        match what:
            case "policy", namespace, name, spec:
                document = network_policy(name, namespace, **spec)
                world.policy(document)
                self.policies[namespace, name] = document
            case "forget", namespace, name:
                if self.policies.pop((namespace, name), None):
                    world.forget(namespace, name)
            case "relabel", n, labels:
                world.relabel(self._uids[n], labels)
                self._labels[n] = labels
            case "restart", n, labels:
                world.stop(self._uids[n])
                self._uids[n] += "x"
                self._labels[n] = labels
                self._start(n)
            case "namespace", name, labels:
                world.namespace(name, labels)
                self.namespaces[name] = labels
            case _:
                raise ValueError(f"{what!r} is nothing that happens")
        self._compile()

    def _compile(self) -> None:
        self._put(self._world.judge("n1", self.mode).maps)

    def judges(self) -> dict[str, Judge]:
        return self._world.judges(self.mode)

    def engine(self) -> Engine:
        return Engine(self._world.state)

    def party(self, n: int, at: str) -> oracle.Party:
        """The traffic's party of that number, by one of its addresses."""
        if n >= len(PODS):
            return oracle.Outside(at)
        return oracle.Pod(self._found[n][0], self._labels[n], at, self._ports(n))

    def who(self, place: Address) -> int | None:
        """As whom the sender comes through the tunnel; None if not that way."""
        return None if self.mode is Mode.NATIVE else self.identity(place)

    def identity(self, place: Address) -> int | None:
        """Of the pod that has the address."""
        uid = self._world.state.bindings.get(address_text(place))
        return None if uid is None else self._world.state.endpoints[uid].identity
