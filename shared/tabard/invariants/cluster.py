"""As much of the folded state as says whether an observed event had anything to change: a model of
its own, so that a fold or a decision which errs is seen to."""

from dataclasses import replace
from typing import NamedTuple

from tabard.events import ledger as events
from tabard.events.observed import Document, Pairs

Key = tuple[str, str, str]
"""(kind, namespace, name)"""


class Facts(NamedTuple):
    """What a node says of itself."""

    addresses: tuple[str, ...]
    pod_cidrs: tuple[str, ...]
    labels: Pairs


class Cluster:
    """Who is there, by the ledger so far."""

    def __init__(self) -> None:
        self.bound: dict[str, events.EndpointBound] = {}
        """By UID, with the labels and the identity that it has now."""
        self.planned: dict[str, tuple[int, Pairs]] = {}
        """Bound pod → (identity, labels) that it is to have."""
        self.stopped: set[str] = set()
        self.refused: dict[str, events.PodRefused] = {}
        """Pods that are not bound, as they were refused last."""
        self.waiting: set[str] = set()
        """Those of them that wait for a number."""
        self.addresses: dict[str, str] = {}
        """Address → UID of who was bound to it last."""
        self.namespaces: dict[str, Pairs] = {}
        self.policies: dict[Key, Document] = {}
        self.refused_policies: set[Key] = set()
        self.workloads: dict[Key, Document] = {}
        self.nodes: dict[str, Facts] = {}
        self.refused_nodes: dict[str, Facts] = {}
        self.quarantined: set[tuple[str, int]] = set()
        self.trimmed: set[int] = set()

    def apply(self, event: events.LedgerEvent) -> str:
        """Go on by `event`; what in it contradicts what went before, or ""."""
        match event:
            case events.EndpointBound(uid):
                fault = ""
                if uid in self.bound:
                    fault = f"binds pod {uid}, which is bound already"
                elif uid in self.stopped and uid not in self.waiting:
                    fault = f"binds pod {uid}, which had stopped"
                self.bound[uid] = event
                self.addresses.update(dict.fromkeys(event.addresses, uid))
                self.refused.pop(uid, None)
                self.waiting.discard(uid)
                return fault
            case events.RelabelPlanned(uid, identity, labels):
                self.planned[uid] = identity, labels
            case events.RebindPlanned(_, changes):
                for uid, identity in changes:
                    if uid in self.bound:
                        self.planned[uid] = identity, self.bound[uid].labels
            case events.EndpointRelabelled(uid, identity, labels):
                return self._move(uid, identity, labels)
            case events.EndpointsRebound(_, changes):
                faults = [self._move(uid, identity, None) for uid, identity in changes]
                return "; ".join(filter(None, faults))
            case events.EndpointUnbound(uid):
                fault = "" if uid in self.bound else f"unbinds pod {uid}, which is not bound"
                self._forget(uid)
                self.stopped.add(uid)
                return fault
            case events.EndpointTombstoned(uid):
                self.stopped.add(uid)
                self.waiting.discard(uid)
                self.refused.pop(uid, None)
            case events.PodRefused(uid):
                self.refused[uid] = event
                (self.waiting.add if event.retry else self.waiting.discard)(uid)
            case events.NamespaceLabelled(name, labels):
                self.namespaces[name] = labels
            case events.NamespaceForgotten(name):
                self.namespaces.pop(name, None)
            case events.PolicyAccepted(kind, namespace, name, document):
                self.policies[kind, namespace, name] = document
                self.refused_policies.discard((kind, namespace, name))
            case events.PolicyRefused(kind, namespace, name):
                self.refused_policies.add((kind, namespace, name))
            case events.PolicyForgotten(kind, namespace, name):
                self.policies.pop((kind, namespace, name), None)
                self.refused_policies.discard((kind, namespace, name))
            case events.WorkloadAccepted(kind, namespace, name, document):
                self.workloads[kind, namespace, name] = document
            case events.WorkloadForgotten(kind, namespace, name):
                self.workloads.pop((kind, namespace, name), None)
            case events.NodeAdded(name, addresses, cidrs, labels):
                self.nodes[name] = Facts(addresses, cidrs, labels)
                self.refused_nodes.pop(name, None)
            case events.NodeRefused(name, addresses, cidrs, labels):
                self.refused_nodes[name] = Facts(addresses, cidrs, labels)
            case events.NodeRemoved(name):
                self.nodes.pop(name, None)
                self.refused_nodes.pop(name, None)
            case events.EventQuarantined(stream, sequence):
                self.quarantined.add((stream, sequence))
            case events.LedgerTrimmed(before):
                self.trimmed.add(before)
            case _:
                pass
        return ""

    def _move(self, uid: str, identity: int, labels: Pairs | None) -> str:
        self.planned.pop(uid, None)
        held = self.bound.get(uid)
        if held is None:
            return f"moves pod {uid}, which is not bound"
        labels = held.labels if labels is None else labels
        self.bound[uid] = replace(held, identity=identity, labels=labels)
        return ""

    def _forget(self, uid: str) -> None:
        held = self.bound.pop(uid, None)
        self.planned.pop(uid, None)
        for address in held.addresses if held is not None else ():
            if self.addresses.get(address) == uid:
                del self.addresses[address]
