"""Domain names whose addresses nobody would learn."""

from collections.abc import Iterator

from tabard.dataplane.maps import Action
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.model import DomainName, Policy


def names(survey: Survey) -> Iterator[Finding]:
    """TB109."""
    learning = 0
    for policy in survey.policies:
        if _learns(policy):
            learning |= survey.subject(policy)
    for policy in survey.written:
        deaf = survey.subject(policy) & ~learning
        if not deaf or policy.selects_nodes:
            continue
        example = survey.name((deaf & -deaf).bit_length() - 1)
        for rule in policy.rules:
            for peer, path in zip(rule.peers or (), rule.peer_paths, strict=True):
                if isinstance(peer, DomainName):
                    why = f"no rule has the lookups of {example} go through the proxy"
                    at = f"{rule.path}.{path}"
                    yield Finding(catalogue.NAME_NEVER_LEARNT, policy.key, at, why)


def _learns(policy: Policy) -> bool:
    return any(
        port.lookups is not None and rule.action is Action.ALLOW
        for rule in policy.rules
        for port in rule.ports
    )
