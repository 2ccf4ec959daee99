"""Reading cilium.io/v2 and v2alpha1 CiliumCIDRGroup: CIDRs that policies name together."""

from collections.abc import Mapping
from typing import Any

from tabard.identity.labels import label_set
from tabard.policy import schema
from tabard.policy.cilium_peers import GROUP_SOURCE, cidr
from tabard.policy.referred import CidrSet

KIND = "CiliumCIDRGroup"
API_VERSIONS = ("cilium.io/v2", "cilium.io/v2alpha1")


def read(document: Mapping[str, Any]) -> tuple[tuple[str, str, str], CidrSet]:
    """(kind, "", name) and the group; PolicyError names the first field that is wrong."""
    top = schema.fields(document, "", "apiVersion", "kind", "metadata", "spec", "status")
    metadata, namespace, name = schema.metadata(top, is_clusterwide=True)
    own = schema.labels(metadata.get("labels", {}), "metadata.labels")
    spec = schema.fields(top.get("spec"), "spec", "externalCIDRs")
    if "externalCIDRs" not in spec:
        schema.fail("spec.externalCIDRs", None, "it must be a list of CIDRs (which may be empty)")
    prefixes = {str(cidr(item, at)) for at, item in schema.items(spec, "externalCIDRs", "spec")}
    labels = label_set(f"{GROUP_SOURCE}:{key}={value}" for key, value in own)
    return (KIND, namespace, name), CidrSet(name, labels, tuple(sorted(prefixes)))
