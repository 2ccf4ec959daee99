"""What a neutral case probes: flows between pods, endpoints and externals (suites' README, 2)."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from conformance.cluster import Cluster
from conformance.policies import networks_of, ports_of
from conformance.story import BOTH, CaseError, Check, Flow, both_ends, verdict
from tabard.dataplane.maps import Address, Direction, Protocol, address

TWIN = ".twin"
"""Name of the second pod of one identity, where a case asks for traffic between two such."""
EVERY = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
"""What `protocol: ANY`, or none, stands for."""
EXPECTED = {"allow": "allow", "deny": "deny", "redirect": "allow"}
"""A redirect is allowed on this layer; what a proxy refuses (L7_DENY) is not judged here."""
L7_DENY = "l7-deny"

UNNAMED = 61_000
"""A port for a name that the destination has not: one that no case numbers."""
NODES = {"host", "remote-node"}
WORLD = {"world", "world-ipv4", "world-ipv6", "all"}


class Probes:
    """Makes probes into flows; `externals` are the case's, `policies` all that it ever applies."""

    def __init__(
        self, externals: Mapping[str, Mapping[str, Any]], policies: Sequence[Mapping[str, Any]]
    ) -> None:
        self._externals = externals
        self._policies = policies

    def left_out(self, probe: Mapping[str, Any], twins: Set[str]) -> str:
        """The tag by which the probe is not judged; "" if it is."""
        if probe["from"] == probe["to"] and probe["from"] not in twins:
            return "loopback"
        if probe["expect"] == L7_DENY:
            return "L7-verdict"
        for end in (probe["from"], probe["to"]):
            external = self._externals.get(end)
            if external is not None:
                others = set(external.get("entities") or ["world"]) - WORLD - NODES
                if others:
                    return f"entity:{min(others)}"
                if external.get("cidr_selectable"):
                    return "cidr-match-nodes"
        return ""

    def checks(self, probes: Sequence[Mapping[str, Any]], cluster: Cluster) -> Iterator[Check]:
        for probe in probes:
            yield Check(
                _shown(probe), self._flows(cluster, probe), EXPECTED[probe["expect"]], verdict
            )

    def _flows(self, cluster: Cluster, probe: Mapping[str, Any]) -> tuple[Flow, ...]:
        halves = _HALVES.get(probe.get("direction", "both"))
        if halves is None:
            raise CaseError(f"probe {probe} has a direction that is not known")
        protocols = _protocols(probe)
        source_name, target_name = probe["from"], probe["to"]
        if source_name == target_name:
            target_name += TWIN
        is_ipv6 = self._is_ipv6(cluster, source_name, target_name, protocols)
        source = self._address(cluster, source_name, target_name, is_ipv6)
        target = self._address(cluster, target_name, source_name, is_ipv6)
        return tuple(
            Flow(source, target, protocol, port, halves)
            for protocol in protocols
            for port in self._ports(cluster, probe, target_name, protocol)
        )

    def _ports(
        self, cluster: Cluster, probe: Mapping[str, Any], target: str, protocol: Protocol
    ) -> list[int]:
        name, number = probe.get("port_name"), probe.get("port")
        if name and target not in self._externals:
            named = cluster.named_port(target, name, protocol.name)
            if named is not None:
                return [named]
        if number is not None:
            return [int(number)]
        if name:
            return [UNNAMED]
        if protocol in (Protocol.ICMP, Protocol.ICMPV6):
            return [8 if protocol is Protocol.ICMP else 128]
        cuts = ports_of(self._policies, cluster.state)[protocol]
        return [port for port, _ in both_ends(cuts, 1, 65_535)]

    def _is_ipv6(
        self, cluster: Cluster, source: str, target: str, protocols: tuple[Protocol, ...]
    ) -> bool:
        if protocols == (Protocol.ICMPV6,):
            return True
        return any(
            ":" in str(self._externals[end].get("ip") or "")
            if end in self._externals
            else cluster.versions(end) == {True}
            for end in (source, target)
        )

    def _address(self, cluster: Cluster, name: str, other: str, is_ipv6: bool) -> Address:
        external = self._externals.get(name)
        if external is None:
            return cluster.address(name, is_ipv6=is_ipv6)
        if external.get("ip"):
            return address(external["ip"])
        entities = set(external.get("entities") or ["world"])
        if entities & NODES:
            pod = None if "host" not in entities or other in self._externals else other
            return cluster.node_address(pod, is_ipv6=is_ipv6)
        return self._somewhere(cluster)

    def is_host(self, name: str) -> bool:
        """Whether the external is the pods' own node."""
        return "host" in (self._externals[name].get("entities") or ())

    def _somewhere(self, cluster: Cluster) -> Address:
        """An address of the world that no CIDR of the case names."""
        named = [ipaddress.ip_network(text) for text in networks_of(self._policies)]
        for number in range(int(ipaddress.IPv4Address("203.0.113.1")), 1 << 32, 65_521):
            at = ipaddress.IPv4Address(number)
            if not any(at in network for network in named) and not cluster.is_ours(number):
                return address(str(at))
        raise CaseError("the case's CIDRs leave no address for an external without one")


_HALVES = {
    "both": BOTH,
    "ingress": frozenset({Direction.INGRESS}),
    "egress": frozenset({Direction.EGRESS}),
}


def _protocols(probe: Mapping[str, Any]) -> tuple[Protocol, ...]:
    name = str(probe.get("protocol") or ("ANY" if probe.get("port") is None else "TCP")).upper()
    if name == "ANY":
        return EVERY
    if name not in Protocol.__members__:
        raise CaseError(f"probe {probe} has a protocol that is not known")
    return (Protocol[name],)


def of_matrix(matrix: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """One probe for each cell of each half; the diagonal comes with `from` equal to `to`."""
    if not matrix:
        return
    pods = matrix["order"]
    for what, directions in matrix["tables"].items():
        protocol, _, port = what.partition("/")
        for direction, rows in directions.items():
            if rows == "all-allowed":
                rows = ["." * len(pods)] * len(pods)
            for source, row in zip(pods, rows, strict=True):
                for target, cell in zip(pods, row, strict=True):
                    if cell not in ".X":
                        raise CaseError(f"a cell of {what} {direction} is {cell!r}")
                    yield {
                        "from": source,
                        "to": target,
                        "port": int(port),
                        "protocol": protocol,
                        "direction": direction,
                        "expect": "allow" if cell == "." else "deny",
                    }


def _shown(probe: Mapping[str, Any]) -> str:
    port = probe.get("port_name") or probe.get("port")
    protocol = probe.get("protocol") or "any protocol"
    what = f"{protocol}, every port" if port is None else f"{port}/{protocol}"
    direction = probe.get("direction", "both")
    half = "" if direction == "both" else f", {direction} alone"
    return f"{probe['from']} -> {probe['to']} {what}{half}"
