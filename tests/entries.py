"""Policy entries and endpoint flags as NetworkPolicy makes them."""

from collections.abc import Iterable

from tabard.dataplane.maps import Action, EndpointFlag, PolicyKey, Strength, strength

INGRESS_ISOLATED = (
    EndpointFlag.INGRESS_ENFORCED | EndpointFlag.INGRESS_ISOLATED | EndpointFlag.INGRESS_NETWORK
)
EGRESS_ISOLATED = (
    EndpointFlag.EGRESS_ENFORCED | EndpointFlag.EGRESS_ISOLATED | EndpointFlag.EGRESS_NETWORK
)
ISOLATED = INGRESS_ISOLATED | EGRESS_ISOLATED


def allowing(keys: Iterable[PolicyKey]) -> dict[PolicyKey, Strength]:
    return dict.fromkeys(keys, strength(Action.ALLOW))
