import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabard.identity.labels import (
    LabelFilter,
    cidr_label,
    label_set,
    named_ports,
    pod_labels,
    split_label,
)


@given(st.lists(st.text()))
def test_a_label_set_is_canonical(labels: list[str]) -> None:
    once = label_set(labels)
    assert once == label_set(reversed(labels)) == label_set([*labels, *labels]) == label_set(once)
    assert list(once) == sorted(set(labels))


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("k8s:app=web", ("k8s", "app", "web")),
        ("k8s:app=", ("k8s", "app", "")),
        ("k8s:app", ("k8s", "app", "")),
        ("reserved:host", ("reserved", "host", "")),
        ("docker:a:b=c=d", ("docker", "a:b", "c=d")),
    ],
)
def test_a_label_splits_at_its_first_colon_and_equals_sign(
    label: str, parts: tuple[str, str, str]
) -> None:
    assert split_label(label) == parts


def test_cidr_labels_are_canonical() -> None:
    assert cidr_label("FD00:0::/8") == "cidr:fd00::/8"
    with pytest.raises(ValueError, match="host bits"):
        cidr_label("10.0.0.1/8")


def labels_of(**changes: object) -> tuple[str, ...]:
    arguments: dict[str, object] = {
        "namespace": "shop",
        "labels": {"app": "web", "pod-template-hash": "7d9"},
        "namespace_labels": {"team": "one"},
        "service_account": "",
        "cluster": "main",
        "label_filter": LabelFilter(),
    }
    return pod_labels(**{**arguments, **changes})  # type: ignore[arg-type]


def test_a_pods_set_has_its_own_and_its_places_labels() -> None:
    assert labels_of() == label_set(
        [
            "k8s:app=web",
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=shop",
            "k8s:io.cilium.k8s.namespace.labels.team=one",
            "k8s:io.cilium.k8s.policy.cluster=main",
            "k8s:io.cilium.k8s.policy.serviceaccount=default",
            "k8s:io.kubernetes.pod.namespace=shop",
        ]
    )


def test_a_pod_without_labels_still_has_its_place() -> None:
    assert "k8s:io.kubernetes.pod.namespace=shop" in labels_of(labels={})


def test_a_pod_cannot_claim_a_place_that_is_not_its_own() -> None:
    claims = {
        "io.kubernetes.pod.namespace": "kube-system",
        "io.cilium.k8s.policy.serviceaccount": "admin",
        "io.cilium.k8s.namespace.labels.team": "two",
        "io.cilium.k8s.new": "x",
    }
    assert labels_of(labels=claims) == labels_of(labels={})


def test_a_label_that_looks_like_another_source_stays_the_pods() -> None:
    assert "k8s:reserved:host=" in labels_of(labels={"reserved:host": ""})
    assert "k8s:cidr:10.0.0.0/8=" in labels_of(labels={"cidr:10.0.0.0/8": ""})


def test_named_ports_take_part_and_are_found_again() -> None:
    ports = (("http", 80, "TCP"), ("dns", 53, "UDP"))
    found = labels_of(ports=ports)
    assert "port:http=80/TCP" in found
    assert named_ports(found) == frozenset(ports)  # type: ignore[arg-type]
    assert named_ports(label_set(["k8s:http=80/TCP"])) == frozenset()


def test_no_filter_keeps_a_named_port_out() -> None:
    label_filter = LabelFilter(include=["app"], exclude=["http", ".*"])
    found = labels_of(ports=(("http", 80, "TCP"),), label_filter=label_filter)
    assert "port:http=80/TCP" in found


class TestLabelFilter:
    @pytest.mark.parametrize(
        ("label", "relevant"),
        [
            ("k8s:app=web", True),
            ("k8s:app.kubernetes.io/name=web", True),
            ("k8s:io.kubernetes.pod.namespace=x", True),
            ("k8s:io.kubernetes.other=x", False),
            ("k8s:kubernetes.io/hostname=x", False),
            ("k8s:statefulset.kubernetes.io/pod-name=x", False),
            ("k8s:apps.kubernetes.io/pod-index=0", False),
            ("k8s:batch.kubernetes.io/controller-uid=0", False),
            ("k8s:batch.kubernetes.io/job-name=x", True),
            ("k8s:some.beta.kubernetes.io/x=y", False),
            ("k8s:pod-template-hash=x", False),
            ("k8s:controller-revision-hash=x", False),
            ("k8s:annotation.x=y", False),
            ("k8s:topology.kubernetes.io/zone=y", False),
            ("reserved:host", True),
            ("cidr:10.0.0.0/8", True),
        ],
    )
    def test_the_default_keeps_what_tells_pods_apart(self, label: str, relevant: bool) -> None:
        assert LabelFilter().relevant(label) is relevant

    def test_with_an_own_include_only_what_is_included_counts(self) -> None:
        label_filter = LabelFilter(include=["app$"])
        assert label_filter.relevant("k8s:app=web")
        assert not label_filter.relevant("k8s:tier=web")
        assert not label_filter.relevant("k8s:apple=web")
        assert label_filter.relevant("k8s:io.kubernetes.pod.namespace=x")

    def test_the_longest_include_beats_the_shortest_exclude(self) -> None:
        label_filter = LabelFilter(include=["teams"], exclude=["team", "teams-private"])
        assert label_filter.relevant("k8s:teams-private=x")
        assert not label_filter.relevant("k8s:team=x")
        assert not LabelFilter(include=["team"], exclude=["team"]).relevant("k8s:team=x")

    def test_a_rule_may_be_for_one_source(self) -> None:
        label_filter = LabelFilter(exclude=["docker:app"])
        assert not label_filter.relevant("docker:app=web")
        assert label_filter.relevant("k8s:app=web")

    def test_a_rule_that_is_no_expression_is_named(self) -> None:
        with pytest.raises(ValueError, match=r"rule 'a\(' is no regular expression"):
            LabelFilter(exclude=["a("])

    def test_applying_keeps_the_relevant_in_canonical_form(self) -> None:
        kept = LabelFilter().apply(["k8s:b=1", "k8s:controller-uid=2", "k8s:a=3", "k8s:b=1"])
        assert kept == ("k8s:a=3", "k8s:b=1")
