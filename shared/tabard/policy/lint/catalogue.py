"""Every lint rule: its id, which never changes meaning, how bad it is, and what to make of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    INFO = 0
    """Worth a look; often meant."""
    WARNING = 1
    """Hardly meant: the policy does less, more or something else than it seems to."""
    ERROR = 2
    """`tabard apply` refuses it."""


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    name: str
    severity: Severity
    says: str
    mend: str


REFUSED = Rule(
    "TB001",
    "refused",
    Severity.ERROR,
    "`tabard apply` would refuse the object",
    "change the field as the message says",
)
SELECTS_NOTHING = Rule(
    "TB101",
    "selects-nothing",
    Severity.WARNING,
    "the policy selects no pod (or node), so it restricts nothing",
    "select labels that the pods carry, or remove the policy",
)
PEER_MATCHES_NOTHING = Rule(
    "TB102",
    "peer-matches-nothing",
    Severity.WARNING,
    "no pod is such a peer, so the rule lets nobody through, or denies nobody",
    "name the labels and the namespace that the peer's pods have, or remove the peer",
)
UNKNOWN_NAMESPACE = Rule(
    "TB103",
    "unknown-namespace",
    Severity.WARNING,
    "no namespace matches",
    "name a namespace by the labels that it has, or declare it",
)
UNKNOWN_LABEL = Rule(
    "TB104",
    "unknown-label",
    Severity.WARNING,
    "part of the selector speaks of a label that no pod has",
    "correct the label, or leave that part out",
)
UNKNOWN_PORT_NAME = Rule(
    "TB105",
    "unknown-port-name",
    Severity.WARNING,
    "no pod that the traffic goes to has a containerPort of this name",
    "name the containerPort in the pod template, or give its number",
)
UNDECLARED_PORT = Rule(
    "TB106",
    "undeclared-port",
    Severity.INFO,
    "no pod that the traffic goes to declares this containerPort",
    "check the number: it is the pod's port, not the Service's",
)
EMPTY_ENTITY = Rule(
    "TB107",
    "entity-without-member",
    Severity.INFO,
    "nothing here is ever of this entity",
    "name the pods, nodes or addresses that are meant",
)
UNKNOWN_REFERENCE = Rule(
    "TB108",
    "unknown-reference",
    Severity.WARNING,
    "what the rule refers to is not there, or stands for nobody",
    "declare it, or correct its name or labels",
)
NAME_NEVER_LEARNT = Rule(
    "TB109",
    "name-never-learnt",
    Severity.WARNING,
    "the rule names domains, but these pods' lookups teach nobody what their addresses are",
    "add rules.dns (a matchPattern) to the rule that allows them the port of the DNS servers",
)
SHADOWED = Rule(
    "TB201",
    "shadowed",
    Severity.WARNING,
    "everything that the rule allows is denied before it",
    "remove the rule, or narrow what denies it",
)
REDUNDANT_POLICY = Rule(
    "TB202",
    "redundant-policy",
    Severity.WARNING,
    "without the policy every verdict is the same",
    "remove it; `tabard policy trim` removes all such parts",
)
REDUNDANT_RULE = Rule(
    "TB203",
    "redundant-rule",
    Severity.INFO,
    "without the rule every verdict is the same",
    "remove it; `tabard policy trim` removes all such parts",
)
REDUNDANT_ITEM = Rule(
    "TB204",
    "redundant-item",
    Severity.INFO,
    "without this peer or port every verdict is the same",
    "remove it; `tabard policy trim` removes all such parts",
)
OPEN_TO_WORLD = Rule(
    "TB301",
    "open-to-world",
    Severity.WARNING,
    "anyone may send, from outside the cluster too, on every port",
    "name the peers, or at least the ports",
)
PORTS_OPEN_TO_WORLD = Rule(
    "TB302",
    "ports-open-to-world",
    Severity.INFO,
    "anyone may send to these ports, from outside the cluster too",
    "name the peers, if not everyone is meant",
)
SENDS_TO_WORLD = Rule(
    "TB303",
    "sends-to-world",
    Severity.INFO,
    "the pods may send to anyone, outside the cluster too",
    "name the peers, if not everyone is meant",
)
ISOLATED_BY_ACCIDENT = Rule(
    "TB304",
    "isolated-by-accident",
    Severity.WARNING,
    "pods are cut off as a side effect of rules that are not about them",
    "give these pods a policy of their own, or narrow the podSelector",
)
BUS_LOCKED_OUT = Rule(
    "TB305",
    "bus-locked-out",
    Severity.WARNING,
    "the policy keeps nodes from the bus, so that their agents hear of nothing any more",
    "allow nodes 4222/TCP to the bus; on those that run it, also what comes in there",
)
DEAD_ANNOTATION = Rule(
    "TB401",
    "dead-annotation",
    Severity.WARNING,
    "the annotation of the time before NetworkPolicy v1 does nothing",
    "declare a NetworkPolicy with podSelector {} and no rules",
)
NULL_SELECTOR = Rule(
    "TB402",
    "null-selector",
    Severity.WARNING,
    "the selector is null, which selects everything",
    "write the labels that are missing, or {} if everything is meant",
)
SURPRISING_EMPTY = Rule(
    "TB403",
    "surprising-empty",
    Severity.WARNING,
    "an empty list means the opposite of what it seems to",
    "write what is meant without the empty list",
)
DEAD_SECTION = Rule(
    "TB404",
    "dead-section",
    Severity.WARNING,
    "policyTypes leaves out the direction of these rules, so they do nothing",
    "add the direction to policyTypes, or remove the rules",
)

RULES: Mapping[str, Rule] = {
    rule.id: rule for rule in list(globals().values()) if isinstance(rule, Rule)
}
"""By id, in order."""
