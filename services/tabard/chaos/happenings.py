"""What happens in the cluster while faults are on, whatever faults: a sequence that a seed decides.

Pods start, stop and are relabelled, names and addresses are used again by others, namespaces are
relabelled, policies change. The sequence does not depend on what the cluster makes of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tabard.chaos.policies import APPS, CHANGING, LAB, SHOP, STAYING, TCP, UDP
from tabard.events.observed import (
    NamespaceLabelsSet,
    Pairs,
    PolicyRemoved,
    PolicySet,
    WorkloadRemoved,
    WorkloadSet,
)

STAYING_PODS, COMING_PODS = 9, 6
"""Pods that are there all the time, and most of those that come and go."""
ORIGIN = "chaos"
RELEASES = 4
"""Different label sets of one app, so that numbers are given back and used again."""
ENVIRONMENTS = ("prod", "test", "none")


@dataclass(frozen=True, slots=True)
class Relabel:
    """A running pod is to have these labels, whatever its UID is."""

    namespace: str
    name: str
    labels: Pairs


Happening = Relabel | WorkloadSet | WorkloadRemoved | NamespaceLabelsSet | PolicySet | PolicyRemoved


class Happenings:
    """`base` is what there is in the beginning, `next` what happens next."""

    def __init__(self, chance: Random, nodes: Sequence[str]) -> None:
        self._chance = chance
        self._nodes = tuple(nodes)
        self._present: dict[str, str] = {}
        """Pods that come and go, of those that are there now: name → namespace."""
        self._in_force: dict[int, int] = {}
        """Place in CHANGING → which of its versions."""

    def base(self) -> list[Happening]:
        """In the order in which it is to be published."""
        return [
            NamespaceLabelsSet(SHOP, (("env", "prod"),)),
            NamespaceLabelsSet(LAB, (("env", "test"),)),
            *(PolicySet(document, ORIGIN) for document in STAYING),
            *(self._stays(number) for number in range(STAYING_PODS)),
        ]

    def _stays(self, number: int) -> WorkloadSet:
        """On each node a pod of each app but the last, two of all in another namespace."""
        node = self._nodes[number // 3 % len(self._nodes)]
        namespace = LAB if number % 4 == 3 else SHOP
        return _pod(namespace, f"stay-{number + 1}", node, _labels(APPS[number % 3], 0))

    def next(self) -> Happening:
        draw = self._chance.random()
        if draw < 0.40:
            return self._relabel()
        if draw < 0.75:
            return self._come_or_go()
        if draw < 0.93:
            return self._policy()
        namespace = self._chance.choice((SHOP, LAB))
        return NamespaceLabelsSet(namespace, (("env", self._chance.choice(ENVIRONMENTS)),))

    def _come_or_go(self) -> Happening:
        """A name comes back as another pod: other labels, and mostly on another node, where it gets
        the lowest address that is free: one that somebody had."""
        name = f"come-{self._chance.randrange(COMING_PODS) + 1}"
        namespace = self._present.pop(name, "")
        if namespace:
            return WorkloadRemoved("Pod", namespace, name)
        namespace = self._present[name] = self._chance.choice((SHOP, LAB))
        return _pod(namespace, name, self._chance.choice(self._nodes), self._drawn_labels())

    def _relabel(self) -> Relabel:
        """Of one that stays the app is the same, or nothing would be sure to be allowed."""
        names = [f"stay-{number + 1}" for number in range(STAYING_PODS)]
        name = self._chance.choice([*names, *self._present, *self._present])
        if namespace := self._present.get(name):
            return Relabel(namespace, name, self._drawn_labels())
        stays = self._stays(names.index(name)).document["metadata"]
        app = stays["labels"]["app"]
        return Relabel(stays["namespace"], name, _labels(app, self._chance.randrange(RELEASES)))

    def _policy(self) -> PolicySet | PolicyRemoved:
        at = self._chance.randrange(len(CHANGING))
        versions = CHANGING[at]
        others = [n for n in range(-1, len(versions)) if n != self._in_force.get(at, -1)]
        chosen = self._chance.choice(others)
        self._in_force[at] = chosen
        if chosen >= 0:
            return PolicySet(versions[chosen], ORIGIN)
        metadata = versions[0]["metadata"]
        return PolicyRemoved(versions[0]["kind"], metadata["namespace"], metadata["name"])

    def _drawn_labels(self) -> Pairs:
        return _labels(self._chance.choice(APPS), self._chance.randrange(RELEASES))


def _labels(app: str, release: int) -> Pairs:
    return (("app", app), ("release", f"r{release}"))


def _pod(namespace: str, name: str, node: str, labels: Pairs) -> WorkloadSet:
    """A bare pod on a chosen node, which listens on all of TCP and UDP."""
    ports = [
        *({"name": f"tcp-{number}", "containerPort": number} for number in TCP),
        *({"name": f"udp-{n}", "containerPort": n, "protocol": "UDP"} for n in UDP),
    ]
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {
            "nodeName": node,
            "containers": [{"name": "main", "image": "chaos/pod:1", "ports": ports}],
        },
    }
    return WorkloadSet(document, ORIGIN)
