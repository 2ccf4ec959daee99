"""Lint findings of manifests given as text."""

from textwrap import dedent

from tabard.manifests.forecast import forecast
from tabard.manifests.objects import Role, check
from tabard.manifests.source import load
from tabard.manifests.workloads import read_workload
from tabard.policy.lint.run import lint
from tabard.policy.lint.survey import Finding, Survey

WEB_AND_DB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: x}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: db, namespace: x}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db, tier: back}}
    spec: {containers: [{name: c, ports: [{name: pg, containerPort: 5432}]}]}
---
"""
"""Two workloads in namespace x."""


def network_policy(spec: str, name: str = "p", namespace: str = "x") -> str:
    """A NetworkPolicy whose spec is this flow of YAML."""
    head = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n"
    return f"{head}metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"


def document(kind: str, version: str, name: str, spec: str, namespace: str = "") -> str:
    """Any other object."""
    place = f"{{name: {name}, namespace: {namespace}}}" if namespace else f"{{name: {name}}}"
    return f"---\napiVersion: {version}\nkind: {kind}\nmetadata: {place}\nspec: {spec}\n"


def findings(text: str, *, whole: bool = False) -> list[Finding]:
    objects = check(load(dedent(text), "a.yaml")).objects
    state = forecast(objects)
    ports = {}
    for each in objects:
        if each.role is Role.WORKLOAD:
            workload = read_workload(each.document)
            own = frozenset((protocol, number) for _, number, protocol in workload.template.ports)
            ports[state.endpoints[workload.owner].identity] = own
    documents = {each.key: each.document for each in objects if each.role is Role.NAMESPACE}
    return lint(Survey(state, documents, ports, whole=whole))


def told(text: str, *, whole: bool = False) -> list[tuple[str, str]]:
    """(rule id, field path) of each finding."""
    return [(each.rule.id, each.path) for each in findings(text, whole=whole)]


def message(text: str, rule: str) -> str:
    """That of the one finding of `rule`."""
    (found,) = [each.message for each in findings(text) if each.rule.id == rule]
    return found
