"""What is not judged, by declared tag, and why. No case is left out by its name."""

from collections.abc import Iterable, Mapping

FEATURES: Mapping[str, str] = {
    "authentication": "mutual authentication is refused by Tabard: it would need its own handshake",
    "deprecated:requires": "fromRequires and toRequires are deprecated in Cilium, and refused",
    "Calico": "Calico's policy kinds are not read",
    "Istio": "Istio's policy kinds are not read",
}
"""Features in a suite's index: a case that declares one does not run."""

REASONS: Mapping[str, str] = {
    **FEATURES,
    "L7-verdict": "what a proxy refuses of a connection that is allowed on L4; Tabard has no L7",
    "loopback": "a pod speaking to itself passes no policy",
    "ipblock-vs-pod": "the source reads ipBlock as outside addresses alone; here it holds pods too",
    "reserved:init": "no pod starts here before its identity is known, so none is ever in init",
    "np_cilium": "a Kubernetes policy that selects by Cilium's own labels; upstream has none such",
    "cidr-match-nodes": "CIDRs match nodes under Cilium's policy-cidr-match-mode=nodes alone",
    "no connection list": "the expected files answer another question",
    "no expectation": "the query states no number, or its map is not kept by the suite",
    "Ingress as a policy": "the source takes an Ingress for a policy of its controller's pods",
    "L7": "L7 rules are refused as such",
    "toGroups": "what a cloud provider's groups hold is not known to Tabard, and refused",
    "not enforced": "refused, as a thing that Tabard declares it does not enforce",
}
"""Every tag → its reason, for the report."""


def left_out(features: Iterable[str]) -> str:
    """The tag by which a case of these features does not run; "" if it does."""
    declared = set(features)
    return next((tag for tag in FEATURES if tag in declared), "")


def reason(tag: str) -> str:
    """Why what has this tag is not judged."""
    if tag in REASONS:
        return REASONS[tag]
    if tag.startswith("entity:"):
        return "no address is known to be this entity, so that no packet can come from it"
    return "declared by the case itself"
