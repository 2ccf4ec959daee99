"""Which identity a starting pod has, as far as the folded ledger says. Pure."""

from functools import lru_cache

from tabard.agent.errors import Code, GateError
from tabard.events.observed import PodStarted
from tabard.identity.labels import LabelFilter, LabelSet, pod_labels
from tabard.ledger.state import State


def resolve(state: State, pod: PodStarted) -> int | None:
    """The pod's identity; None if the ledger must say more first.

    Raises GateError (refused) if the ledger has decided against the pod.
    """
    if (bound := state.endpoints.get(pod.uid)) is not None:
        if bound.node != pod.node:
            raise _refused(pod, f"it is bound to node {bound.node} (LEDGER/{bound.bound_at})")
        return bound.identity if bound.identity in state.identities else None
    if (refused := state.refused_pods.get(pod.uid)) is not None:
        raise _refused(pod, refused.reason)
    if (stopped := state.tombstones.get(pod.uid)) is not None:
        raise _refused(pod, f"it was stopped at LEDGER/{stopped}; start it with another UID")
    if any(text in state.bindings for text in pod.addresses):
        return None  # the ledger decides who holds an address
    labels = label_set(state, pod)
    return None if labels is None else state.numbers.get(labels)


def label_set(state: State, pod: PodStarted) -> LabelSet | None:
    """The identity-relevant labels of a pod; None before the ledger says which labels are."""
    if state.settings is None:
        return None
    return pod_labels(
        namespace=pod.namespace,
        labels=dict(pod.labels),
        namespace_labels=state.namespaces.get(pod.namespace, {}),
        service_account=pod.service_account,
        cluster=state.settings.cluster,
        ports=pod.ports,
        label_filter=_filter(state.settings.include, state.settings.exclude),
    )


@lru_cache(maxsize=4)
def _filter(include: tuple[str, ...], exclude: tuple[str, ...]) -> LabelFilter:
    return LabelFilter(include, exclude)


def _refused(pod: PodStarted, reason: str) -> GateError:
    return GateError(Code.REFUSED, f"pod {pod.namespace}/{pod.name} ({pod.uid}): {reason}")
