"""What one decision has promised so far, while nothing of it is applied yet."""

from collections import Counter
from collections.abc import Iterable, Mapping

from tabard.allocator.claims import Claims
from tabard.allocator.envelopes import entity
from tabard.allocator.numbering import CIDR_LAST, Allotment, Numbering
from tabard.allocator.watermarks import Watermarks
from tabard.bus.port import PAYLOAD_BYTES_MAX
from tabard.events.codec import encode, type_name
from tabard.events.envelope import Envelope
from tabard.events.ledger import (
    IdentityAllocated,
    LedgerEvent,
    NodeAdded,
    NodeRemoved,
    NodeReturned,
    PodRefused,
)
from tabard.events.observed import Pairs, PodStarted, Ports
from tabard.identity.labels import LabelFilter, LabelSet, cidr_label, pod_labels, split_label
from tabard.identity.numbers import is_pod
from tabard.ledger.state import EndpointState, Node, State
from tabard.policy.names import Asked

REASON_MAX = 1_000
"""Longest reason of a refusal, in characters."""
ENVELOPE_BYTES_MAX = 1_024
"""Room for what an event carries beside its data: envelope fields, chain hash, framing."""
HEAVIEST_KEYS = 3

Pod = PodStarted | PodRefused | EndpointState


class Indexes:
    """What decisions look up beside the state: what is derived from it and kept in step with it,
    and what nodes said last."""

    def __init__(self, state: State, node_ranges: Iterable[str] = ()) -> None:
        """`node_ranges`: CIDRs in which what nodes claim must lie; none: anywhere."""
        assert state.settings is not None, "label filter and number space are among the settings"
        self.cluster = state.settings.cluster
        self.label_filter = LabelFilter(state.settings.include, state.settings.exclude)
        self.numbering = Numbering(state)
        self.asked = Asked(state)
        self.claims = Claims(state.nodes.values(), node_ranges)
        self.watermarks = Watermarks()
        self._heaviest: tuple[tuple[str, int], ...] = ()

    def note(self, event: LedgerEvent) -> None:
        """Follow the state past `event`."""
        self.numbering.note(event)
        self.asked.note(event)
        match event:
            case IdentityAllocated():
                self._heaviest = ()
            case NodeAdded():
                self.claims.add(Node(event.name, event.addresses, event.pod_cidrs))
            case NodeRemoved():
                self.claims.remove(event.name)
                self.watermarks.forget(event.name)
            case NodeReturned():
                self.watermarks.renew(event.name)

    def heaviest_keys(self, state: State) -> tuple[tuple[str, int], ...]:
        """The label keys with the most values among pods' identities, most first, and how many.

        Counted once while the number space stays full: it takes a second at a million labels.
        """
        if not self._heaviest:
            values = Counter(
                ":".join(split_label(label)[:2])
                for label in {
                    label
                    for held, number in state.numbers.items()
                    if is_pod(number)
                    for label in held
                }
            )
            ranked = sorted(values.items(), key=lambda item: (-item[1], item[0]))
            self._heaviest = tuple(ranked[:HEAVIEST_KEYS])
        return self._heaviest


class Refusal(Exception):
    """Something cannot be had. With `retry` it may be once a number is free."""

    def __init__(self, reason: str, retry: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason[:REASON_MAX]
        self.retry = retry


class Plan:
    """One decision in the making on `state`, which it only reads.

    `namespace_labels` overrides the labels of namespaces, for a decision that changes them.
    """

    def __init__(
        self,
        state: State,
        indexes: Indexes,
        namespace_labels: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.state = state
        self.indexes = indexes
        self.allotment = Allotment(state, indexes.numbering.cluster)
        self._namespace_labels = namespace_labels or {}
        self._label_sets: dict[tuple[str, Pairs, str, Ports], LabelSet] = {}
        self._claimed: dict[str, int] = {}

    def label_set(self, pod: Pod, labels: Pairs | None = None) -> LabelSet:
        """The identity-relevant label set of `pod` (with `labels` instead of its own).

        Pods of one template share the work.
        """
        labels = pod.labels if labels is None else labels
        namespace = pod.namespace
        key = (namespace, labels, pod.service_account, pod.ports)
        found = self._label_sets.get(key)
        if found is None:
            named = self._namespace_labels.get(namespace)
            if named is None:
                named = self.state.namespaces.get(namespace, {})
            found = self._label_sets[key] = pod_labels(
                namespace=namespace,
                labels=dict(labels),
                namespace_labels=named,
                service_account=pod.service_account,
                cluster=self.indexes.cluster,
                ports=pod.ports,
                label_filter=self.indexes.label_filter,
            )
        return found

    def known(self, pod: Pod) -> int | None:
        """The number of `pod`'s label set, if it has one."""
        return self.allotment.known(self.label_set(pod))

    def number(self, labels: LabelSet) -> int:
        """The identity of `labels`, new if need be. Refusal if it is too large or none is free."""
        known = self.allotment.known(labels)
        if known is not None:
            return known
        check_size(IdentityAllocated(CIDR_LAST, labels))
        drawn = self.allotment.draw(labels)
        if drawn is not None:
            return drawn
        settings = self.state.settings
        assert settings is not None
        heaviest = ", ".join(
            f"{key} ({count} values)" for key, count in self.indexes.heaviest_keys(self.state)
        )
        raise Refusal(
            f"no identity number is free (cluster id {settings.cluster_id}, {settings.cluster_bits}"
            f" cluster bits); most are made by the label keys {heaviest}: exclude such a key from "
            "identities, which is set at install, or remove pods that carry it",
            retry=True,
        )

    def started_at(self, address: str) -> int | None:
        """When the pod that holds `address` started, or None if nobody holds it."""
        if address in self._claimed:
            return self._claimed[address]
        holder = self.state.endpoints.get(self.state.bindings.get(address, ""))
        return None if holder is None else holder.started_at

    def claim(self, addresses: Iterable[str], started_at: int) -> None:
        """A pod that this decision binds holds `addresses`."""
        self._claimed.update(dict.fromkeys(addresses, started_at))


def number_cidrs(state: State, indexes: Indexes, cidrs: Iterable[str]) -> list[IdentityAllocated]:
    """What gives each of `cidrs` an identity; Refusal if there is none left."""
    allotment = Allotment(state, indexes.numbering.cidr)
    for prefix in sorted(cidrs):
        labels = LabelSet((cidr_label(prefix),))
        if allotment.known(labels) is None and allotment.draw(labels) is None:
            raise Refusal("no number for a CIDR is free; remove policies that name CIDRs")
    return allotment.events


def check_size(event: LedgerEvent) -> None:
    """Refusal if the bus could not carry `event`."""
    try:
        size = len(encode(event, Envelope(bytes(16), entity(event), 0)))
    except ValueError as error:  # over the codec's own bound, or nested deeper than msgpack goes
        raise Refusal(str(error)) from error
    most = PAYLOAD_BYTES_MAX - ENVELOPE_BYTES_MAX
    if size > most:
        raise Refusal(
            f"{type_name(event)} for {entity(event)!r} has {size} bytes, more than the {most} that "
            "fit into an event; make it smaller (fewer labels or rules)"
        )
