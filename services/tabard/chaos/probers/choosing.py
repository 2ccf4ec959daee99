"""Who sends to whom next: what passed lately, again and again, and anything else by chance."""

from collections.abc import Callable, Mapping
from random import Random

from tabard.chaos.probers.held import PROTOCOLS, Held
from tabard.demo.probe import Target

STEADY_MAX = 60
"""Most pairs that are tried again and again, each a few times a second."""
STEADY_SHARE = 0.4
REPLACED_SHARE = 0.02
"""Of the pairs that pass while there are STEADY_MAX, how many take another's place."""
GONE_SOURCE_SHARE = 0.03
GONE_TARGET_SHARE = 0.07
ODD_PORT_SHARE = 0.05
"""Of what is tried by chance: from pods that are gone, to addresses that they had, to ports that
others listen on."""

Pair = tuple[str, Target]
"""(the sender's UID, where to)"""


class Chooser:
    """`pods` are by UID, the dead ones that are still held among them, and may change meanwhile."""

    def __init__(self, chance: Random, pods: Mapping[str, Held]) -> None:
        self._chance = chance
        self._pods = pods
        self._steady: dict[Pair, None] = {}

    def next(self) -> tuple[Held, Target] | None:
        """A pair, or None if nothing can be sent: the first dice may have fallen on nobody."""
        if self._steady and self._chance.random() < STEADY_SHARE:
            pair = next(iter(self._steady))
            del self._steady[pair]
            source = self._pods.get(pair[0])
            if source is None or source.gone_at is not None:
                return None
            self._steady[pair] = None  # it is the last now
            return source, pair[1]
        return self._any()

    def passed(self, pair: Pair) -> None:
        """A packet of this pair passed: it may be tried again and again."""
        if pair in self._steady:
            return
        if len(self._steady) >= STEADY_MAX:
            if self._chance.random() >= REPLACED_SHARE:
                return
            del self._steady[self._chance.choice(list(self._steady))]
        self._steady[pair] = None

    def forget(self, addresses: frozenset[str]) -> None:
        """Nobody is at these addresses any more, nor is to come there."""
        for pair in [pair for pair in self._steady if pair[1].address in addresses]:
            del self._steady[pair]

    def _any(self) -> tuple[Held, Target] | None:
        source = self._one(GONE_SOURCE_SHARE, lambda pod: pod.is_there)
        other = self._one(GONE_TARGET_SHARE, lambda pod: bool(pod.targets))
        if source is None or other is None:
            return None
        target = self._chance.choice(other.targets)
        if self._chance.random() < ODD_PORT_SHARE and (third := self._one(0.0, _listens)):
            port = self._chance.choice(third.targets).port
            target = Target(target.address, port, self._chance.choice(PROTOCOLS))
        # What a pod sends to itself, or to who has its address now, meets nobody.
        if target.address in source.pod.addresses or not source.address_towards(target):
            return None
        return source, target

    def _one(self, gone_share: float, fits: Callable[[Held], bool]) -> Held | None:
        is_gone = self._chance.random() < gone_share
        found = [
            pod for pod in self._pods.values() if (pod.gone_at is not None) == is_gone and fits(pod)
        ]
        return self._chance.choice(found) if found else None


def _listens(pod: Held) -> bool:
    return bool(pod.targets)
