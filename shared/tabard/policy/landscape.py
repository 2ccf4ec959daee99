"""Who there is for policies to speak of, as bits of one number, and which of them policies mean.

A third reading of policies beside `compile` and `engine`, made for questions about whole sets of
policies: a set of parties is one integer, so that "does this rule change anything for anybody" is
some arithmetic. Tests hold its verdicts equal to the engine's.

A pod or node may have any address: what is found here holds wherever pods run. A question about a
rule is so about labels, and about every part of the address space that CIDRs cut out (`atoms`).
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from tabard.dataplane.maps import Direction
from tabard.identity.labels import NAMED_PORT_SOURCE, NamedPorts, named_ports
from tabard.identity.numbers import Reserved, is_pod
from tabard.ledger.state import State, enforcement_of
from tabard.policy.atoms import Atoms
from tabard.policy.matching import RESERVED_LABELS, labels_of
from tabard.policy.model import ANY_SOURCE, Policy, Requirement, Selector

_RESERVED = (Reserved.REMOTE_NODE, Reserved.HOST, Reserved.WORLD_IPV4, Reserved.WORLD_IPV6)


@dataclass(frozen=True, slots=True)
class Group:
    """Pods' identities that the same policies select, and that mean the same by ports' names."""

    subjects: int
    policies: tuple[Policy, ...]
    ports: NamedPorts


class Landscape:
    """The live identities of `state`: bit 0 and up are pods', the last four reserved ones.

    `newcomers` are the numbers of those that no pod has yet (`with_newcomers`).
    """

    def __init__(self, state: State, newcomers: Collection[int] = ()) -> None:
        used = {pod.identity for pod in state.endpoints.values() if not pod.host_network}
        pods = sorted(number for number in used if is_pod(number) and number in state.identities)
        self.numbers = [*pods, *(reserved.value for reserved in _RESERVED)]
        """Bit → the security identity that it stands for."""
        labels = [state.identities[number].labels for number in pods]
        labels += (RESERVED_LABELS[reserved] for reserved in _RESERVED)
        self.enforcement = enforcement_of(state)
        self.labels = [labels_of(each) for each in labels]
        self.ports: list[NamedPorts] = [named_ports(each) for each in labels]
        self.size = len(labels)
        self.subjects = (1 << len(pods)) - 1
        """Whom policies may select."""
        self.pods = sum(1 << bit for bit, number in enumerate(pods) if number not in newcomers)
        self.remote, self.host, self.world4, self.world6 = (
            1 << len(pods) + at for at in range(len(_RESERVED))
        )
        self.everyone = (1 << self.size) - 1
        self._values: dict[tuple[str, str], dict[str, int]] = {}
        for bit, known in enumerate(self.labels):
            for label, value in known.items():
                values = self._values.setdefault(label, {})
                values[value] = values.get(value, 0) | 1 << bit
        self._selected: dict[Selector, int] = {}

    def values(self, source: str, key: str) -> Iterable[tuple[str, int]]:
        """Each value of a label, with those that have it; of ANY_SOURCE by every source."""
        if source != ANY_SOURCE:
            return self._values.get((source, key), {}).items()
        return [
            found
            for (each, name), values in self._values.items()
            if name == key and each != NAMED_PORT_SOURCE
            for found in values.items()
        ]

    def keys(self, source: str) -> Iterator[str]:
        """Every label key that some party has."""
        for each, key in self._values:
            if source in (each, ANY_SOURCE):
                yield key

    def select(self, selector: Selector) -> int:
        """Who matches."""
        found = self._selected.get(selector)
        if found is None:
            found = self.everyone
            for requirement in selector.requirements:
                found &= self._meeting(requirement)
            self._selected[selector] = found
        return found

    def _meeting(self, one: Requirement) -> int:
        having = 0
        for value, bits in self.values(one.source, one.key):
            if one.operator in ("Exists", "DoesNotExist") or value in one.values:
                having |= bits
        return having if one.operator in ("In", "Exists") else self.everyone & ~having

    def having_port(self, name: str, protocol: str) -> Iterator[tuple[int, int]]:
        """(port number, the pods that call it by `name`)"""
        found: dict[int, int] = {}
        for bit, ports in enumerate(self.ports):
            for own, number, of in ports:
                if own == name and of == protocol:
                    found[number] = found.get(number, 0) | 1 << bit
        yield from found.items()

    def groups(self, policies: Iterable[Policy]) -> list[Group]:
        """The pods, by what selects them; those that nothing selects are one group, or none."""
        chosen = [policy for policy in policies if not policy.selects_nodes]
        selecting: list[list[int]] = [[] for _ in range(self.subjects.bit_length())]
        for index, policy in enumerate(chosen):
            for bit in bits(self.select(policy.subject) & self.subjects):
                selecting[bit].append(index)
        named = [_names_ports(policy) for policy in chosen]
        found: dict[tuple[tuple[int, ...], NamedPorts], int] = {}
        for bit, indices in enumerate(selecting):
            own = self.ports[bit] if any(named[each] for each in indices) else frozenset()
            key = (tuple(indices), own)
            found[key] = found.get(key, 0) | 1 << bit
        return [
            Group(subjects, tuple(chosen[each] for each in indices), ports)
            for (indices, ports), subjects in found.items()
        ]

    def spread(self, parties: int, atoms: Atoms) -> int:
        """`parties` at any address: their bits once for each atom."""
        return parties * (((1 << self.size * len(atoms)) - 1) // self.everyone)

    def at(self, parties: int, index: int) -> int:
        """`parties` at the addresses of the atom in this place."""
        return parties << index * self.size

    def possible(self, direction: Direction, atoms: Atoms) -> int:
        """Everyone at every address that they may have; the world by its family alone.

        Of ingress without the pod's own node, which is let in whatever policies say.
        """
        members = self.everyone & ~(self.world4 | self.world6)
        if direction is Direction.INGRESS:
            members &= ~self.host
        found = self.spread(members, atoms)
        for index, atom in enumerate(atoms):
            found |= self.at(self.world4 if atom.version == 4 else self.world6, index)
        return found


def bits(number: int) -> Iterator[int]:
    """The places of the ones in a number, from the lowest."""
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


def _names_ports(policy: Policy) -> bool:
    return any(
        port.name
        for rule in policy.rules
        if rule.direction is Direction.INGRESS
        for port in rule.ports
    )
