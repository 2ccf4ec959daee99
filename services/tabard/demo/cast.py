"""Who plays which part in the trials, chosen from the example by what its policies allow."""

from collections.abc import Iterator
from typing import Any

from tabard.demo.expectation import Expectation
from tabard.demo.probe import Target
from tabard.demo.session import Session, TrialError
from tabard.events.observed import WorkloadSet
from tabard.ledger.state import EndpointState

FRONTEND = ("Deployment", "shop", "frontend")
FRONTEND_REPLICAS = 20
FRONTEND_PORT = (8080, "TCP")
SUSPECT = {"app": "suspect"}
"""The labels of a relabelled pod: the shop's policies know no such app."""
VISITOR_PORT = 9000
"""`grpc`, which a frontend may call on a pod with the labels of a checkout, and on no stranger."""
FLOWS = 6
DENIED_SOURCES = 3
DENIED_TARGETS = 4


def caller(
    session: Session, target: EndpointState, port: tuple[int, str], *, may: bool
) -> EndpointState:
    """A pod on another node that may, or may not, reach the target pod's port."""
    expectation = session.expectation()
    where = [Target(address, *port) for address in target.addresses]
    for pod in session.pods():
        if pod.node != target.node and all(
            expectation.allows_pod(pod.uid, at, "") is may for at in where
        ):
            return pod
    raise TrialError(f"no pod {'may' if may else 'may not'} reach {target.name} port {port[0]}")


def lost_targets(session: Session, pod: EndpointState) -> list[Target]:
    """What the pod may reach by TCP now (and, as a suspect, no longer may)."""
    expectation = session.expectation()
    return [
        target
        for other in session.pods("shop") + session.pods("data")
        if other is not pod
        for target in session.targets(other)
        if target.protocol == "TCP" and expectation.allows_pod(pod.uid, target, "")
    ]


def bare_pod(name: str, labels: dict[str, str], node: str) -> WorkloadSet:
    """A pod of the namespace shop on a chosen node, with a checkout's port."""
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "name": name,
                    "image": f"shop/{name}:1",
                    "ports": [{"name": "grpc", "containerPort": VISITOR_PORT}],
                }
            ],
        },
    }
    return WorkloadSet(document, "demo")


def flows(session: Session) -> list[tuple[EndpointState, Target]]:
    """Allowed UDP pairs between nodes, IPv4 and IPv6, from different pods."""
    expectation = session.expectation()
    found: list[tuple[EndpointState, Target]] = []
    for pod in session.pods():
        for target in _foreign(session, pod):
            wanted_version = ":" if len(found) % 2 else "."
            if (
                target.protocol == "UDP"
                and wanted_version in target.address
                and expectation.allows_pod(pod.uid, target, "")
            ):
                found.append((pod, target))
                break
        if len(found) == FLOWS:
            return found
    raise TrialError(f"only {len(found)} allowed UDP pairs between nodes; {FLOWS} are needed")


def denied(session: Session) -> list[tuple[EndpointState, list[Target]]]:
    """Pairs between nodes that are not allowed, from a few pods."""
    expectation = session.expectation()
    found = []
    for pod in session.pods():
        targets = _not_allowed(session, expectation, pod)
        if len(targets) == DENIED_TARGETS:
            found.append((pod, targets))
        if len(found) == DENIED_SOURCES:
            return found
    raise TrialError("there are too few denied pairs between nodes")


def _not_allowed(session: Session, expectation: Expectation, pod: EndpointState) -> list[Target]:
    targets = []
    for target in _foreign(session, pod):
        if not expectation.allows_pod(pod.uid, target, ""):
            targets.append(target)
            if len(targets) == DENIED_TARGETS:
                break
    return targets


def _foreign(session: Session, pod: EndpointState) -> Iterator[Target]:
    for other in session.pods():
        if other.node != pod.node:
            yield from session.targets(other)
