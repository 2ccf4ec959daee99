"""What Services, EndpointSlices, Endpoints and groups of CIDRs are read as."""

from typing import Any

import pytest

from tabard.identity.labels import NAMESPACE_KEY
from tabard.policy.model import PolicyError, Requirement, Selector
from tabard.policy.reading import PolicyObject, read_object
from tabard.policy.referred import Backends, CidrSet, ServiceFront

VERSIONS = {
    "Service": "v1",
    "Endpoints": "v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "CiliumCIDRGroup": "cilium.io/v2",
}
IN_DATA = Requirement(NAMESPACE_KEY, "In", frozenset({"data"}))


def found(kind: str, labels: dict[str, str] | None = None, **fields: Any) -> PolicyObject:
    metadata: dict[str, Any] = {"name": "x", "labels": labels}
    if kind != "CiliumCIDRGroup":
        metadata["namespace"] = "data"
    return read_object({"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata, **fields})


def backends(kind: str, labels: dict[str, str] | None = None, **fields: Any) -> Backends:
    referent = found(kind, labels, **fields).referent
    assert isinstance(referent, Backends)
    return referent


def test_a_service_with_a_selector_is_its_pods_whatever_else_it_says() -> None:
    read = found(
        "Service",
        {"tier": "data"},
        spec={
            "selector": {"app": "db", "k8s-app": "x"},
            "ports": [{"port": 80}],
            "type": "ClusterIP",
        },
    )
    pods = Selector(
        (
            IN_DATA,
            Requirement("app", "In", frozenset({"db"})),
            Requirement("k8s-app", "In", frozenset({"x"})),
        )
    )
    assert read.referent == ServiceFront("data", "x", ("k8s:tier=data",), pods)
    assert (read.key, read.policies, read.cidrs()) == (("Service", "data", "x"), (), frozenset())


@pytest.mark.parametrize("spec", [None, {}, {"selector": None}, {"selector": {}}])
def test_a_service_without_a_selector_selects_no_pods(spec: Any) -> None:
    assert found("Service", spec=spec).referent == ServiceFront("data", "x", (), None)


def test_a_slice_holds_the_addresses_that_may_be_used() -> None:
    endpoints = [
        {"addresses": ["192.0.2.2", "192.0.2.1"]},
        {"addresses": ["192.0.2.1"], "conditions": {"ready": True}, "zone": "a"},
        {"addresses": ["192.0.2.3"], "conditions": {"ready": False}},
        {"addresses": ["192.0.2.4"], "conditions": {"ready": False, "serving": True}},
        {"addresses": ["192.0.2.5"], "conditions": {"ready": None}},
    ]
    label = {"kubernetes.io/service-name": "db"}
    read = backends("EndpointSlice", label, addressType="IPv4", endpoints=endpoints, ports=[])
    held = tuple(f"192.0.2.{number}/32" for number in (1, 2, 4, 5))
    assert read == Backends("data", "db", held)
    assert read.cidrs() == frozenset(held)


def test_a_slice_of_names_holds_no_addresses_and_one_of_no_service_is_nobodys() -> None:
    endpoints = [{"addresses": ["db.example.com"]}]
    assert backends("EndpointSlice", addressType="FQDN", endpoints=endpoints) == Backends(
        "data", "", ()
    )


def test_endpoints_hold_the_addresses_that_are_ready() -> None:
    subsets = [
        {"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:DB8::1"}], "ports": [{"port": 1}]},
        {"notReadyAddresses": [{"ip": "192.0.2.2"}]},
    ]
    assert backends("Endpoints", subsets=subsets) == Backends(
        "data", "x", ("192.0.2.1/32", "2001:db8::1/128")
    )


def test_a_group_of_cidrs_holds_each_once_in_canonical_form() -> None:
    read = found(
        "CiliumCIDRGroup",
        {"region": "eu"},
        spec={"externalCIDRs": ["192.0.2.1/24", "2001:DB8::/32", "192.0.2.0/24"]},
    )
    held = ("192.0.2.0/24", "2001:db8::/32")
    assert read.referent == CidrSet("x", ("cidrgroup:region=eu",), held)
    assert (read.key, read.cidrs()) == (("CiliumCIDRGroup", "", "x"), frozenset(held))
    assert found("CiliumCIDRGroup", spec={"externalCIDRs": []}).cidrs() == frozenset()


@pytest.mark.parametrize(
    ("kind", "fields", "path"),
    [
        ("Service", {"spec": []}, "spec"),
        ("Service", {"spec": {"selector": {"a b": "c"}}}, "spec.selector['a b']"),
        ("Service", {"spec": {"selector": {"a": 1}}}, "spec.selector['a']"),
        ("EndpointSlice", {}, "addressType"),
        ("EndpointSlice", {"addressType": "IPv4", "endpoints": {}}, "endpoints"),
        (
            "EndpointSlice",
            {"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]},
            "endpoints[0].addresses[0]",
        ),
        (
            "EndpointSlice",
            {"addressType": "IPv6", "endpoints": [{"addresses": ["x"]}]},
            "endpoints[0].addresses[0]",
        ),
        ("Endpoints", {"subsets": [{"addresses": [{}]}]}, "subsets[0].addresses[0].ip"),
        ("CiliumCIDRGroup", {}, "spec"),
        ("CiliumCIDRGroup", {"spec": {}}, "spec.externalCIDRs"),
        ("CiliumCIDRGroup", {"spec": {"externalCIDRs": ["10.0.0.1"]}}, "spec.externalCIDRs[0]"),
        ("CiliumCIDRGroup", {"spec": {"externalCIDRs": [], "cidrs": []}}, "spec.cidrs"),
    ],
)
def test_a_mistake_is_named_by_its_path(kind: str, fields: dict[str, Any], path: str) -> None:
    with pytest.raises(PolicyError) as error:
        found(kind, **fields)
    assert error.value.path == path
