"""Policies of nodes that would cut agents off from the bus, and so from whoever mends it."""

from collections.abc import Iterator

from tabard.dataplane.maps import Action, Direction, Protocol
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.model import Policy, Port, Rule

BUS_PORT = 4222
"""Of NATS, unless its operator chose another."""


def lockout(survey: Survey) -> Iterator[Finding]:
    """TB305."""
    guards = [policy for policy in survey.policies if policy.selects_nodes]
    for policy in guards:
        if Direction.EGRESS not in policy.isolates:
            continue
        if any(_holds_for(other, policy) and _reaches_bus(other) for other in guards):
            continue
        yield Finding(
            catalogue.BUS_LOCKED_OUT,
            policy.key,
            f"{policy.section}.{policy.subject_field}",
            f"isolates nodes on egress, and no rule lets their agents reach {BUS_PORT}/TCP",
        )


def _holds_for(other: Policy, policy: Policy) -> bool:
    """Whether it selects all nodes that `policy` does, whatever labels these have."""
    return set(other.subject.requirements) <= set(policy.subject.requirements)


def _reaches_bus(policy: Policy) -> bool:
    return any(
        rule.direction is Direction.EGRESS and rule.action is Action.ALLOW and _names_bus(rule)
        for rule in policy.rules
    )


def _names_bus(rule: Rule) -> bool:
    return rule.peers != () and any(map(_has_bus, rule.ports))


def _has_bus(port: Port) -> bool:
    is_tcp = port.protocol in (Protocol.ANY, Protocol.TCP)
    return is_tcp and not port.name and port.first <= BUS_PORT <= port.last
