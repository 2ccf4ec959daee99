"""What policies say of two ends, asked of the second reading (`policy.engine`), and kept.

Label sets are numbered here anew and for good, so that a world hangs on nothing but policies, what
they refer to, nodes and the enforcement: the same one comes back in other histories, and what it
was asked is known then.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from tabard.dataplane.maps import Direction
from tabard.identity.labels import LabelSet
from tabard.identity.numbers import CIDR_SCOPE, CLUSTER_MIN, Reserved
from tabard.ledger.state import Identity, State
from tabard.policy.engine import Engine
from tabard.policy.parties import Party, Role, ip

WORLDS_MAX = 1_024
"""Worlds that are kept; the longest unused makes room."""
ANSWERS_MAX = 65_536
"""Answers that one world keeps; then it begins anew."""

BY_ADDRESS, UNKNOWN = 0, -1
"""As the number of an end: whoever has the address and is no pod; nobody that is known."""


class End(NamedTuple):
    """One end of a flow, as one state knows it."""

    number: int
    """Of its label set (`Worlds.number`), or BY_ADDRESS, or UNKNOWN."""
    address: str
    node: str = ""
    """A pod's."""


class World:
    """Policies in one state. `state` holds what they hang on, and no pods."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._engine: Engine | None = None
        self._answers: dict[Hashable, bool] = {}
        self._roles: dict[str, Role] = {}

    def role(self, address: str) -> Role:
        """Whose the address is, if it is no pod's."""
        found = self._roles.get(address)
        if found is None:
            found = self._roles[address] = self._asked().parties.find(address)[0].role
        return found

    def passes(
        self, direction: Direction, subject: End, peer: End, protocol: int, port: int
    ) -> bool:
        """Whether a pod's policies let it have this traffic; `port` is the destination's."""
        key = (direction, subject, peer, protocol, port)
        found = self._answers.get(key)
        if found is None:
            if len(self._answers) >= ANSWERS_MAX:
                self._answers.clear()
            found = self._answers[key] = self._judge(direction, subject, peer, protocol, port)
        return found

    def _judge(
        self, direction: Direction, subject: End, peer: End, protocol: int, port: int
    ) -> bool:
        engine = self._asked()
        one, other = self._party(subject), self._party(peer)
        half = engine.half(direction, one, other, protocol, port)
        return half is None or half.reason.allowed

    def _party(self, end: End) -> Party:
        match end.number:
            case 0:
                return self._asked().parties.find(end.address)[0]
            case -1:
                return Party(Role.UNKNOWN, ip(end.address), Reserved.UNKNOWN.value)
            case number:
                return Party(Role.POD, ip(end.address), number, frozenset((end.node,)))

    def _asked(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(self._state)
        return self._engine


class Worlds:
    """All worlds that were asked for lately, in however many histories."""

    def __init__(self) -> None:
        self._identities: dict[int, Identity] = {}
        self._numbers: dict[LabelSet, int] = {}
        self._kept: OrderedDict[Hashable, World] = OrderedDict()

    def number(self, labels: LabelSet) -> int:
        """The number of a pod's label set: always the same one."""
        found = self._numbers.get(labels)
        if found is None:
            found = self._numbers[labels] = CLUSTER_MIN + len(self._numbers)
            assert found < CIDR_SCOPE, "as many as a number space of pods has"
            self._identities[found] = Identity(labels, 0)
        return found

    def world(self, key: Hashable, state: State) -> World:
        """The world of `state`, of which nothing counts that `key` does not tell."""
        found = self._kept.get(key)
        if found is None:
            of = State(
                settings=state.settings,
                nodes=dict(state.nodes),
                policies=dict(state.policies),
                names={name: dict(held) for name, held in state.names.items()},
                identities=self._identities,
                numbers=self._numbers,
            )
            found = self._kept[key] = World(of)
            if len(self._kept) > WORLDS_MAX:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return found
