"""The state that manifests alone tell is the one that source and allocator would bring about."""

import pytest

from shops import SHOP, decided
from tabard.ledger.state import State
from tabard.manifests.errors import ManifestError
from tabard.manifests.forecast import forecast
from tabard.manifests.objects import Manifest, check
from tabard.manifests.reading import read
from tabard.manifests.source import load

KINDS = """\
apiVersion: v1
kind: Namespace
metadata: {name: work, labels: {team: b}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: work}
spec: {template: {metadata: {labels: {app: once}}, spec: {containers: [{name: c}]}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: work}
spec:
  replicas: 3
  ordinals: {start: 5}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      serviceAccountName: keeper
      containers: [{name: c, ports: [{name: sql, containerPort: 5432}]}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: work}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {hostNetwork: true, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bare, labels: {app: bare, kubernetes.io/os: linux}}
spec: {containers: [{name: c}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: work}
spec:
  podSelector: {}
  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]
"""
SUSPENDED = """\
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: c}]}}}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: unused}
spec:
  replicas: 0
  selector: {matchLabels: {app: unused}}
  template: {metadata: {labels: {app: unused}}, spec: {containers: [{name: c}]}}
"""


def objects(text: str) -> tuple[Manifest, ...]:
    return check(load(text, "f.yaml")).objects


def label_sets(state: State) -> dict[str, set[tuple[str, ...]]]:
    """Owner → the label sets of its pods; a node's pods have the number of `host`."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for pod in state.endpoints.values():
        known = state.identities.get(pod.identity)
        labels = known.labels if known else (f"number {pod.identity}",)
        found.setdefault(pod.owner, set()).add(labels)
    return found


@pytest.mark.parametrize("text", ["", KINDS], ids=["shop", "kinds"])
def test_identities_policies_and_namespaces_are_those_of_source_and_allocator(text: str) -> None:
    found = objects(text) if text else read([SHOP]).objects
    # A CronJob asks for no pods now; what stands for it is beyond comparison.
    found = tuple(each for each in found if each.kind != "CronJob")
    told, real = forecast(found), decided(found).state
    assert label_sets(told) == label_sets(real)
    assert told.policies == real.policies
    assert told.namespaces == real.namespaces
    assert told.numbers.keys() == real.numbers.keys()


def test_a_workload_stands_as_one_pod_even_if_it_asks_for_none() -> None:
    told = forecast(objects(SUSPENDED))
    assert sorted((pod.uid, pod.name) for pod in told.endpoints.values()) == [
        ("CronJob/default/nightly", "nightly"),
        ("Deployment/default/unused", "unused"),
    ]
    assert all(not pod.addresses for pod in told.endpoints.values())


def test_a_pod_of_a_stateful_set_has_the_first_ordinal() -> None:
    assert forecast(objects(KINDS)).endpoints["StatefulSet/work/db"].name == "db-5"


def test_a_policy_that_an_allocator_would_refuse_is_refused_with_its_line() -> None:
    text = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: never}
spec:
  podSelector:
    matchLabels:
      pod-template-hash: x
"""
    with pytest.raises(
        ManifestError, match=r"^f.yaml:6: spec.podSelector: .*never match"
    ) as caught:
        forecast(objects(text))
    assert caught.value.origin == "f.yaml:6"


def test_the_same_manifests_give_the_same_state() -> None:
    assert forecast(objects(KINDS)) == forecast(objects(KINDS))
