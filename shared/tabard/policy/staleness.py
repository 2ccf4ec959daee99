"""How old a node's knowledge may be before the pods that a policy selects open no new flows.

A policy object of any kind says it by two annotations: `tabard.io/stale-after` is a time such as
`30s` or `1m30s`, and `tabard.io/stale-then` what happens then: `hold` (what was enforced last is
enforced on, as without them) or `deny-new`. Of the policies that select a pod the shortest time
counts, and an agent's own bound beside them.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tabard.dataplane.maps import STALE_AFTER_S_MAX
from tabard.policy import schema
from tabard.policy.model import Policy, PolicyError

AFTER = "tabard.io/stale-after"
THEN = "tabard.io/stale-then"
HOLD, DENY_NEW = "hold", "deny-new"

_NAMESPACE = "tabard.io/stale"
_TIME = re.compile(r"(?:(\d{1,2})h)?(?:(\d{1,4})m)?(?:(\d{1,5})s)?")


def bounded(policies: tuple[Policy, ...], document: Mapping[str, Any]) -> tuple[Policy, ...]:
    """The policies of a document, with its bound; PolicyError if it cannot be theirs."""
    metadata = document.get("metadata")
    found = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    if not isinstance(found, Mapping):
        return policies
    given = {key: value for key, value in found.items() if str(key).startswith(_NAMESPACE)}
    if not given:
        return policies
    for key in given:
        if key not in (AFTER, THEN):
            raise PolicyError(_path(key), f"unknown annotation; known here: {AFTER} and {THEN}")
    after_s = _seconds(given.get(AFTER))
    then = schema.choice(given.get(THEN), _path(THEN), (HOLD, DENY_NEW))
    if then == HOLD:
        return policies
    if not policies:
        schema.fail(_path(THEN), then, "the object is no policy, and selects no pods")
    if any(policy.selects_nodes for policy in policies):
        reason = "it selects nodes, and these must reach the bus to know what the ledger says"
        schema.fail(_path(THEN), then, reason)
    return tuple(replace(policy, stale_after_s=after_s) for policy in policies)


def _seconds(value: object) -> int:
    rule = f"it must be a time of 1s to {STALE_AFTER_S_MAX}s such as 30s or 1m30s"
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        schema.fail(_path(AFTER), value, rule)
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    total = (hours * 60 + minutes) * 60 + seconds
    if not 1 <= total <= STALE_AFTER_S_MAX:
        schema.fail(_path(AFTER), value, rule)
    return total


def _path(key: object) -> str:
    return f"metadata.annotations[{key!r}]"
