"""A smaller set of policy objects that means the same, and what was left out of it.

Documents are cut, not models: what is left is read anew, so that what a kind takes an absent field
for is held against what stood there. Parts are policies, rules, peers and ports, tried from the
greatest to the smallest and from the last to the first, until none can go.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tabard.dataplane.maps import Direction
from tabard.ledger.state import ObjectKey, State
from tabard.policy.items import atoms_of, items
from tabard.policy.landscape import Group, Landscape
from tabard.policy.model import DomainName, Policy, PolicyError, Rule, Selector
from tabard.policy.newcomers import with_newcomers
from tabard.policy.outcome import Outcome, outcome
from tabard.policy.reading import read_object
from tabard.policy.referents import referents_of, resolve
from tabard.policy.subsumption import implied

Document = Mapping[str, Any]
Part = tuple[ObjectKey, str]
"""(object, field path in it as it was written; "" for all of it)"""

_MAY_BE_EMPTY = ("ingress", "egress", "ingressDeny", "egressDeny", "specs")
"""Lists whose last item may go: none of them means nobody. An empty list of peers is everyone."""
_STEP = re.compile(r"[^.\[\]]+|\[\d+\]")


@dataclass(frozen=True, slots=True)
class Reduction:
    documents: Mapping[ObjectKey, Document]
    """What is left, each as its author wrote it but for the parts that went."""
    removed: tuple[Part, ...]


def reduce(state: State, *, any_workload: bool = False, unmatched: bool = False) -> Reduction:
    """The policies of `state` without what changes nothing.

    Nothing for its pods, a pod without labels in each of their namespaces, nodes and the world, at
    any addresses; with `any_workload` for every pod that could be, as `subsumption` knows it. What
    means nobody now is kept, unless `unmatched` parts are to go too.
    """
    scene = _Scene(state)
    same = scene.says_the_same if any_workload else scene.changes_nothing
    kept: dict[ObjectKey, set[str]] = {}
    for key, path in scene.never_known() if unmatched or any_workload else scene.unknown():
        kept.setdefault(key, set()).add(path)
    gone: dict[ObjectKey, set[str]] = {}
    while _sweep(scene, kept, gone, same):
        pass
    removed = sorted((key, path) for key, paths in gone.items() for path in paths)
    return Reduction(scene.documents, tuple(removed))


def _sweep(
    scene: "_Scene",
    kept: Mapping[ObjectKey, set[str]],
    gone: dict[ObjectKey, set[str]],
    same: Callable[[ObjectKey, tuple[Policy, ...]], bool],
) -> bool:
    """Try every part once; whether any went."""
    went = False
    for key in sorted(scene.originals, reverse=True):
        for path in scene.parts[key]:
            before = gone.setdefault(key, set())
            if any(_under(path, each) for each in before) or any(
                _under(each, path) or _under(path, each) for each in kept.get(key, ())
            ):
                continue
            left = _without(scene.originals[key], {*before, path})
            if left is None:
                continue
            try:
                found = read_object(left).policies if path else ()
            except PolicyError:
                continue
            if same(key, found):
                scene.put(key, left if path else None, found)
                gone[key] = {each for each in before if not _under(each, path)} | {path}
                went = True
    return went


class _Scene:
    """The policies that are left so far, and who they select."""

    def __init__(self, state: State) -> None:
        full, newcomers = with_newcomers(state)
        self.land = Landscape(full, newcomers)
        self._referents = referents_of(state)
        self.originals: dict[ObjectKey, Document] = {}
        self._policies: dict[ObjectKey, tuple[Policy, ...]] = {}
        self._written: dict[ObjectKey, tuple[Policy, ...]] = {}
        for key, accepted in state.policies.items():
            found = read_object(accepted.document).policies
            if found:
                self.originals[key] = accepted.document
                self._written[key] = found
                self._policies[key] = self.resolved(found)
        self.documents: dict[ObjectKey, Document] = {
            key: accepted.document for key, accepted in state.policies.items()
        }
        self.parts = {key: list(_parts(found)) for key, found in self._written.items()}
        everything = [policy for found in self._policies.values() for policy in found]
        self._groups = self.land.groups(everything)
        self._before: dict[tuple[int, Direction], Outcome] = {}
        self._of_object: dict[ObjectKey, list[int]] = {key: [] for key in self._policies}
        """The groups that it selects, by their places."""
        for index, group in enumerate(self._groups):
            for key in {policy.key for policy in group.policies}:
                self._of_object[key].append(index)

    def resolved(self, policies: Sequence[Policy]) -> tuple[Policy, ...]:
        return tuple(resolve(policy, self._referents) for policy in policies)

    def put(self, key: ObjectKey, document: Document | None, found: tuple[Policy, ...]) -> None:
        """Take a smaller version of an object; None for its removal."""
        if document is None:
            del self.documents[key], self.originals[key]
            del self._written[key], self._policies[key]
        else:
            self.documents[key] = document
            self._written[key], self._policies[key] = found, self.resolved(found)
        for index in self._of_object[key]:
            group = self._groups[index]
            policies = self._instead(group, key, self._policies.get(key, ()))
            self._groups[index] = replace(group, policies=policies)
            for direction in Direction:
                self._before.pop((index, direction), None)

    def _instead(
        self, group: Group, key: ObjectKey, policies: tuple[Policy, ...]
    ) -> tuple[Policy, ...]:
        """The group's policies with these in the place of the object's."""
        others = [policy for policy in group.policies if policy.key != key]
        own = [policy for policy in policies if self.land.select(policy.subject) & group.subjects]
        return (*others, *own)

    def changes_nothing(self, key: ObjectKey, instead: tuple[Policy, ...]) -> bool:
        """Whether each outcome stays with `instead` in the place of the object's policies."""
        if any(policy.selects_nodes for policy in self._policies[key]):
            return False
        if _bounds(self._written[key]) != _bounds(instead):
            return False
        for index in self._of_object[key]:
            group = self._groups[index]
            policies = self._instead(group, key, self.resolved(instead))
            atoms = atoms_of(group.policies)
            for direction in Direction:
                before = self._before.get((index, direction))
                if before is None:
                    before = outcome(self.land, direction, group.policies, group.ports, atoms)
                    self._before[index, direction] = before
                if outcome(self.land, direction, policies, group.ports, atoms) != before:
                    return False
        return True

    def says_the_same(self, key: ObjectKey, instead: tuple[Policy, ...]) -> bool:
        """Whether by their words all others and `instead` say all that the object says."""
        if _bounds(self._written[key]) != _bounds(instead):
            return False
        others = [policy for of, found in self._written.items() if of != key for policy in found]
        return implied(self._written[key], [*others, *instead])

    def unknown(self) -> set[Part]:
        """Peers and ports that mean nobody here, and policies that select nobody."""
        said: set[Part] = set()
        for group in self._groups:
            said |= {(policy.key, policy.section) for policy in group.policies}
            said.update(self._said(group))
        found = {
            (policy.key, policy.section)
            for policies in self._policies.values()
            for policy in policies
        }
        for policies in self._written.values():
            for policy in policies:
                for rule in policy.rules:
                    found |= {(policy.key, path) for path in _leaves(rule)}
        return (found - said) | self.never_known()

    def never_known(self) -> set[Part]:
        """Peers by domain names: whom they mean is known once they were looked up."""
        return {
            (policy.key, f"{rule.path}.{at}")
            for policies in self._written.values()
            for policy in policies
            for rule in policy.rules
            for peer, at in zip(rule.peers or (), rule.peer_paths, strict=True)
            if isinstance(peer, DomainName)
        }

    def _said(self, group: Group) -> Iterator[Part]:
        atoms = atoms_of(group.policies)
        for direction in Direction:
            for item in items(self.land, direction, group.policies, group.ports, atoms):
                policy = group.policies[item.place.policy]
                rule = policy.rules[item.place.rule]
                if rule.peers is not None:
                    yield policy.key, f"{rule.path}.{rule.peer_paths[item.place.peer]}"
                if rule.port_paths:
                    yield policy.key, f"{rule.path}.{rule.port_paths[item.place.port]}"


def _bounds(policies: Sequence[Policy]) -> set[tuple[Selector, int]]:
    """How old a node's knowledge may be for whom, which no outcome shows."""
    return {(one.subject, one.stale_after_s) for one in policies if one.stale_after_s}


def _parts(policies: Sequence[Policy]) -> Iterator[str]:
    """Field paths from the greatest part to the smallest, the last of each first."""
    yield ""
    if len(policies) > 1:
        yield from reversed([policy.section for policy in policies])
    rules = [rule for policy in policies for rule in policy.rules]
    yield from reversed(list(dict.fromkeys(rule.path for rule in rules)))
    leaves = dict.fromkeys(path for rule in rules for path in _leaves(rule))
    whole: dict[str, None] = {}
    for leaf in leaves:
        # Of a list within an item of a list, the item may go too.
        steps = _STEP.findall(leaf)
        for end in range(1, len(steps) + 1):
            path = _joined(steps[:end])
            if path.endswith("]") and path not in {rule.path for rule in rules}:
                whole.setdefault(path)
    yield from sorted(whole, key=lambda path: path.count("["))


def _leaves(rule: Rule) -> Iterator[str]:
    for at in (*rule.peer_paths, *rule.port_paths):
        yield f"{rule.path}.{at}"


def _joined(steps: Sequence[str]) -> str:
    return "".join(step if step.startswith("[") else f".{step}" for step in steps)[1:]


def _under(path: str, other: str) -> bool:
    """Whether `path` is `other` or within it; "" is all."""
    return not other or path == other or path.startswith((f"{other}.", f"{other}["))


def _without(document: Document, paths: set[str]) -> Document | None:
    """The document without these parts; {} without "", which is all of it.

    None if a list of peers or ports would be empty, which does not mean that nobody is in it.
    """
    if "" in paths:
        return {}
    found = copy.deepcopy(dict(document))
    # The last first, so that places of items before it stay.
    for path in sorted(paths, key=lambda path: [_rank(step) for step in _STEP.findall(path)])[::-1]:
        *outer, last = _STEP.findall(path)
        value: Any = found
        for step in outer:
            value = value[int(step[1:-1])] if step.startswith("[") else value[step]
        if not last.startswith("["):
            del value[last]  # `spec`, beside `specs`
            continue
        del value[int(last[1:-1])]
        if not value and outer[-1] not in _MAY_BE_EMPTY:
            return None
    return found


def _rank(step: str) -> tuple[str, int]:
    return ("", int(step[1:-1])) if step.startswith("[") else (step, 0)
