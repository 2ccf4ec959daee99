"""Domain names that nobody may look up: what they stand for is never known."""

from collections.abc import Iterator

from tabard.policy.lint import catalogue
from tabard.policy.lint.survey import Finding, Survey
from tabard.policy.model import DomainName
from tabard.policy.patterns import matches_name


def lookups(survey: Survey) -> Iterator[Finding]:
    """TB109: names are learned from look-ups through the nodes' DNS proxy alone."""
    heard = [
        (survey.subject(policy), port.lookups)
        for policy in survey.policies
        for rule in policy.rules
        for port in rule.ports
        if port.lookups is not None
    ]
    for policy in survey.written:
        subject = survey.subject(policy)
        if not subject:
            continue
        own = {pattern for pods, patterns in heard if pods & subject for pattern in patterns}
        for rule in policy.rules:
            for peer, at in zip(rule.peers or (), rule.peer_paths, strict=True):
                if isinstance(peer, DomainName) and not _is_heard(peer.pattern, own):
                    why = (
                        f"no rule with rules.dns lets the pods look up {peer.pattern}, "
                        "so nobody knows what it stands for"
                    )
                    yield Finding(catalogue.NOT_LOOKED_UP, policy.key, f"{rule.path}.{at}", why)


def _is_heard(wanted: str, patterns: set[str]) -> bool:
    """Whether a look-up that one of `patterns` allows may be of a name that is `wanted`."""
    example = wanted.replace("*", "a") if wanted.strip("*") else ""
    return any(
        not example or matches_name(pattern, example) or matches_name(wanted, pattern)
        for pattern in patterns
    )
