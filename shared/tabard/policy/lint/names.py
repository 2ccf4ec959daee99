"""Domain names whose addresses nobody would learn."""

from collections.abc import Iterable, Iterator

from tabard.dataplane.maps import Action
from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.model import DomainName, Policy
from tabard.policy.patterns import matches_name


def names(survey: Survey) -> Iterator[Finding]:
    """TB109."""
    learning = [
        (survey.subject(policy), patterns)
        for policy in survey.policies
        if (patterns := _lookups(policy))
    ]
    for policy in survey.written:
        subject = survey.subject(policy)
        for rule in policy.rules:
            for peer, path in zip(rule.peers or (), rule.peer_paths, strict=True):
                if not isinstance(peer, DomainName):
                    continue
                deaf = subject
                for pods, patterns in learning:
                    if _teach(patterns, peer.pattern):
                        deaf &= ~pods
                if deaf and not policy.selects_nodes:
                    example = survey.name((deaf & -deaf).bit_length() - 1)
                    why = f"no rule has {example} look {peer.pattern} up through the proxy"
                    at = f"{rule.path}.{path}"
                    yield Finding(catalogue.NAME_NEVER_LEARNT, policy.key, at, why)


def _lookups(policy: Policy) -> frozenset[str]:
    """The patterns of names that it has looked up through the proxy."""
    return frozenset(
        pattern
        for rule in policy.rules
        for port in rule.ports
        if rule.action is Action.ALLOW
        for pattern in port.lookups or ()
    )


def _teach(patterns: Iterable[str], wanted: str) -> bool:
    """Whether a name that one of `patterns` allows may be one that is `wanted`."""
    example = wanted.replace("*", "a")
    return not wanted.strip("*") or any(
        matches_name(pattern, example) or matches_name(wanted, pattern) for pattern in patterns
    )
