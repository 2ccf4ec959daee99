"""What is forged: packets that claim to come from a pod that might have sent them. Pure.

Each bears a token by which it is known where it arrives, and goes to a pod that lets in what it
claims to be. Beside them are *controls*: what the true sender may send, made by the same means, so
that it proves something if no forged one arrives.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import product
from random import Random

from tabard.dataplane.crafted import in_vxlan, ip_packet
from tabard.dataplane.maps import Protocol
from tabard.dataplane.port import TUNNEL_PORT
from tabard.identity.numbers import Reserved
from tabard.ledger.state import EndpointState, Node, State
from tabard.netns.names import node_namespace, pod_namespace
from tabard.policy.engine import Engine

MARK = b"tabard-chaos:"
"""What every token begins with."""
TOKEN_BYTES = 24
TRIES_MAX = 200
"""Most pairs of pods that are looked at for one that may speak."""
_PROTOCOLS = ("TCP", "UDP")


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow that policies allow, between pods of two nodes."""

    source: EndpointState
    target: EndpointState
    source_node: Node
    target_node: Node
    ends: tuple[str, str]
    """The pods' addresses, of one family."""
    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Shot:
    """One packet."""

    kind: str
    """As of `record.Packet`, and so are `how` and `source`."""
    how: str
    source: str
    namespace: str
    """Where it is sent from."""
    destination: str
    """Where it goes to at first, an address."""
    data: bytes
    """A whole IP packet if `is_raw`, else a datagram's payload, to the tunnel port."""
    is_raw: bool
    claimed: str
    """The source address that its receiver would believe."""
    token: bytes


class Forger:
    """Makes shots about one flow between pods of the run."""

    def __init__(self, run: str, flow: Flow, chance: Random) -> None:
        self._run = run
        self._flow = flow
        self._chance = chance

    def controls(self, tunnels: bool) -> list[Shot]:
        """What must arrive; with `tunnels` also what the pod's node sends in its name, which is
        true only of a state that is current."""
        flow, uid = self._flow, self._flow.source.uid
        shots = [self._plain("pod", "by hand", uid, flow.ends[0])]
        if tunnels:
            node = node_namespace(self._run, flow.source_node.name)
            how = "by hand, in its node's tunnel"
            for outer in ("", *flow.source_node.addresses):
                shots += self._tunnelled("pod", how, uid, node, flow.source.identity, outer)
        return shots

    def strangers(self, namespace: str, foreign: Iterable[str]) -> list[Shot]:
        """What a machine on the underlay sends that is no node, from `namespace`; `foreign` are
        addresses that no node has."""
        shots: list[Shot] = []
        for identity, whose in self._identities():
            how = f"in a tunnel, with {whose} identity"
            shots += self._tunnelled("stranger", how, "", namespace, identity)
            for address in foreign:
                from_there = f"{how}, from {address}"
                shots += self._tunnelled("stranger", from_there, "", namespace, identity, address)
        return shots

    def liars(self, liar: EndpointState, own: Node, unused: Iterable[str]) -> list[Shot]:
        """What a pod on the node `own` sends that lies about its address, or speaks to the tunnel
        port itself; `unused` are addresses of the pods' ranges that no pod has."""
        flow, uid = self._flow, liar.uid
        claims = {flow.ends[0]: "an allowed pod's address"}
        claims |= dict.fromkeys(unused, "an address of no pod")
        claims |= dict.fromkeys(own.addresses, "its own node's address")
        claims |= dict.fromkeys(flow.target_node.addresses, "the receiver's node's address")
        family = ip_address(flow.ends[1]).version
        shots = [
            self._plain("forger", f"from {whose}", uid, address)
            for address, whose in claims.items()
            if ip_address(address).version == family
        ]
        namespace = pod_namespace(self._run, uid)
        for identity, whose in self._identities():
            how = f"in a tunnel of its own, with {whose} identity"
            shots += self._tunnelled("forger", how, uid, namespace, identity)
            for address in flow.source_node.addresses:
                from_there = f"{how}, from another node's address"
                shots += self._tunnelled("forger", from_there, uid, namespace, identity, address)
        return shots

    def _identities(self) -> Iterator[tuple[int, str]]:
        yield self._flow.source.identity, "an allowed pod's"
        yield Reserved.HOST.value, "the receiver's node's"

    def _plain(self, kind: str, how: str, uid: str, claimed: str) -> Shot:
        token, packet = self._packet(claimed)
        namespace = pod_namespace(self._run, uid)
        return Shot(kind, how, uid, namespace, self._flow.ends[1], packet, True, claimed, token)

    def _tunnelled(
        self, kind: str, how: str, uid: str, namespace: str, identity: int, outer: str = ""
    ) -> Iterator[Shot]:
        """To each address of the receiver's node: from `outer` to those of its family, or from
        whatever address the sender has."""
        claimed = self._flow.ends[0]
        for node in self._flow.target_node.addresses:
            if outer and ip_address(outer).version != ip_address(node).version:
                continue
            token, packet = self._packet(claimed)
            data = in_vxlan(identity, packet)
            if outer:
                data = ip_packet((outer, node), (self._port(), TUNNEL_PORT), data)
            yield Shot(kind, how, uid, namespace, node, data, bool(outer), claimed, token)

    def _packet(self, source: str) -> tuple[bytes, bytes]:
        token = MARK + self._chance.randbytes(TOKEN_BYTES - len(MARK))
        flow = self._flow
        ports = self._port(), flow.port
        return token, ip_packet((source, flow.ends[1]), ports, token, flow.protocol)

    def _port(self) -> int:
        return self._chance.randrange(32_768, 61_000)


def allowed_flow(state: State, engine: Engine, chance: Random) -> Flow | None:
    """One by chance that may be opened now; None if none of TRIES_MAX pairs is."""
    pods = [pod for pod in state.endpoints.values() if not pod.host_network]
    if len(pods) < 2:
        return None
    for _ in range(TRIES_MAX):
        found = list(_flows(state, *chance.sample(pods, 2)))
        if found:
            flow = chance.choice(found)
            if engine.decide(*flow.ends, flow.protocol, flow.port).allowed:
                return flow
    return None


def _flows(state: State, source: EndpointState, target: EndpointState) -> Iterator[Flow]:
    """Between addresses that are theirs still: of pods with one address the later one has it."""
    one, other = state.nodes.get(source.node), state.nodes.get(target.node)
    if one is None or other is None or one == other:
        return
    theirs = [
        [address for address in pod.addresses if state.bindings.get(address) == pod.uid]
        for pod in (source, target)
    ]
    for _, port, protocol in target.ports:
        for a, b in product(*theirs):
            if protocol in _PROTOCOLS and ip_address(a).version == ip_address(b).version:
                yield Flow(source, target, one, other, (a, b), port, Protocol[protocol])


def liars_about(flow: Flow, state: State) -> list[EndpointState]:
    """Pods that lie if they claim to be the flow's source. Who has no address of its family may
    have had just that one, and its node may not know yet who has it now."""
    family = ip_address(flow.ends[0]).version
    return [
        pod
        for pod in state.endpoints.values()
        if pod.node in state.nodes
        and not pod.host_network
        and pod.uid != flow.target.uid
        and flow.ends[0] not in pod.addresses
        and any(ip_address(address).version == family for address in pod.addresses)
    ]
