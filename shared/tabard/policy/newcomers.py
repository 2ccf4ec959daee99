"""A state with pods that are still to come: one without labels of its own in each namespace.

Without them a default denial would mean nothing once each pod has a policy of its own, and a rule
for a whole namespace no more than one for the labels that happen to be there.
"""

from dataclasses import replace
from itertools import count

from tabard.identity.labels import (
    DERIVED_PREFIXES,
    SERVICE_ACCOUNT_KEY,
    LabelSet,
    label_set,
    split_label,
)
from tabard.identity.numbers import CLUSTER_MIN
from tabard.ledger.state import EndpointState, Identity, State

UID = "newcomer/"
"""Before the namespace: the UID of who is to come there."""


def with_newcomers(state: State) -> tuple[State, frozenset[int]]:
    """A copy of `state` with a newcomer wherever there are pods, and the newcomers' identities.

    A namespace where a pod without labels is already gets none.
    """
    found = replace(
        state,
        identities=dict(state.identities),
        endpoints=dict(state.endpoints),
        numbers=dict(state.numbers),
    )
    free = (number for number in count(CLUSTER_MIN) if number not in state.identities)
    added = set()
    for labels, like in _label_sets(state).items():
        if labels in state.numbers:
            continue
        number = next(free)
        added.add(number)
        found.identities[number] = Identity(labels, allocated_at=state.sequence, users=1)
        found.numbers[labels] = number
        uid = f"{UID}{like.namespace}"
        found.endpoints[uid] = replace(
            like,
            uid=uid,
            name="(a new pod)",
            owner="",
            identity=number,
            addresses=(),
            labels=(),
            ports=(),
            service_account="default",
        )
    return found, frozenset(added)


def _label_sets(state: State) -> dict[LabelSet, EndpointState]:
    """What a pod without labels would carry in each namespace → a pod that is there."""
    found: dict[str, tuple[LabelSet, EndpointState]] = {}
    for endpoint in state.endpoints.values():
        known = state.identities.get(endpoint.identity)
        if known is None or endpoint.host_network or endpoint.namespace in found:
            continue
        derived = [label for label in known.labels if _is_derived(label)]
        account = f"k8s:{SERVICE_ACCOUNT_KEY}=default"
        found[endpoint.namespace] = label_set([*derived, account]), endpoint
    return dict(found.values())


def _is_derived(label: str) -> bool:
    source, key, _ = split_label(label)
    if source != "k8s" or key == SERVICE_ACCOUNT_KEY:
        return False
    return key.startswith(DERIVED_PREFIXES)
