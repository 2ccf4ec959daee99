"""Why an end of a flow lets it pass or not, in words and tables; ports in words too."""

from collections.abc import Sequence

from tabard.cli.printing import room, table
from tabard.cli.records import Row
from tabard.cli.rows import OTHER, named, traffic_of
from tabard.policy.traffic import EVERYTHING, PORT_MAX, difference
from tabard.policy.traffic import shown as traffic_shown

PORTS_SHOWN = 5
"""Of the ports on which anything may pass, save by `-o wide`."""
_INDENT_MAX = 6
"""Characters before a line of the rules' table."""
RULES_SHOWN = 5
"""Of the rules that decide, save by `-o wide`."""
MISSES_SHOWN = 3
"""Of the reasons why no rule matched, save by `-o wide`."""


def connected(rows: Sequence[Row]) -> list[str]:
    """Each of `rows` in words; of what no list of protocols is the whole, what is left out."""
    if any(one["protocol"] == OTHER for one in rows):
        return [f"all but {traffic_shown(difference(EVERYTHING, traffic_of(rows)))}"]
    return [connection(one) for one in rows]


def connection(one: Row) -> str:
    """`80/TCP`, `all/UDP`, `all`"""
    if one["protocol"] == "ANY":
        return "all"
    first, last = one["first"], one["last"]
    ports = "all" if (first, last) == (0, PORT_MAX) else f"{first}-{last}"
    return f"{first if first == last else ports}/{one['protocol']}"


_SAID = {
    "allowed_host": "allowed, since a node may always speak to its own pods",
    "denied_unknown_peer": "denied, since no pod holds the peer's address, which is in the pods' "
    "ranges (unknown is not world)",
}


def verdict(half: Row | None, party: Row) -> str:
    if half is None:
        return f"no policy holds for {_ROLES[party['role']]}"
    said = _SAID.get(half["reason"]) or _decided(half)
    return f"{said}; passed on by {_by(half['passes'])}" if half["passes"] else said


def _decided(half: Row) -> str:
    allow = [rule for rule in half["rules"] if rule["action"] != "deny"]
    deny = [rule for rule in half["rules"] if rule["action"] == "deny"]
    if half["reason"] == "denied_policy":
        wholly = half["tier"] or any(connection(rule["traffic"]) == "all" for rule in deny)
        if deny and (wholly or not half["isolated_by"]):
            return f"denied by {_by(deny)}"
        if not half["isolated_by"]:
            return "denied, since no rule allows it and the install enforces always"
        count = len(half["isolated_by"])
        isolating = "policy that isolates" if count == 1 else f"{count} policies that isolate"
        whose = f"no rule of the {isolating} it allows"
        if deny:
            return f"denied in part by {_by(deny)}, and {whose} the rest"
        return f"denied, since {whose} it"
    said = f"allowed by {_by(allow)}" if allow else "allowed, since no policy isolates it"
    if any(rule["action"] == "proxy" for rule in allow):
        names = sorted({name for rule in allow for name in rule["lookups"] or ()})
        said += f" through the node's DNS proxy, for {', '.join(names) or 'no name'}"
    return f"{said}, and denied in part by {_by(deny)}" if deny else said


def _by(rules: Sequence[Row]) -> str:
    """`shop/web`, `lockdown (tier admin)`"""
    return ", ".join(
        dict.fromkeys(
            named(rule) if rule["tier"] == "network" else f"{named(rule)} (tier {rule['tier']})"
            for rule in rules
        )
    )


_ROLES = {
    "node": "a node, or a pod in its node's network",
    "world": "what is outside the cluster",
    "unknown": "an address that no pod holds",
}


_DOES = {"allow": "ALLOWS", "proxy": "ALLOWS", "deny": "DENIES", "pass": "PASSES"}
_WOULD = {"ALLOWS": "WOULD ALLOW", "DENIES": "WOULD DENY"}


def reasons(half: Row | None, *, wide: bool) -> list[str]:
    """Lines of tables: the rules that decide, those that they overrule, or why none does."""
    if half is None:
        return []
    if "considered" in half:
        return _considered(half["considered"], wide=wide)
    lines: list[str] = []
    for kind in ("passes", "rules", "overruled"):
        for does in dict.fromkeys(_DOES[rule["action"]] for rule in half[kind]):
            rules = [rule for rule in half[kind] if _DOES[rule["action"]] == does]
            lines += _rules(rules, _WOULD[does] if kind == "overruled" else does, wide=wide)
    if half["misses"]:
        shown = half["misses"][: None if wide else MISSES_SHOWN]
        lines += table(
            ["POLICY", "RULE", "WHY NOT", "ORIGIN"],
            ([named(miss), miss["path"], miss["why"], miss["origin"]] for miss in shown),
            room(wide=wide, indent=_INDENT_MAX),
        )
        lines += _more(half["misses"], shown)
    return lines


def _rules(rules: Sequence[Row], does: str, *, wide: bool) -> list[str]:
    shown = rules[: None if wide else RULES_SHOWN]
    lines = table(
        ["POLICY", "RULE", does, "ORIGIN"],
        (
            [named(rule), _items(rule), connection(rule["traffic"]), rule["origin"]]
            for rule in shown
        ),
        room(wide=wide, indent=_INDENT_MAX),
    )
    return [*lines, *_more(rules, shown)]


_CONSIDERED = ("path", "action", "part", "why", "origin")


def _considered(rows: Sequence[Row], *, wide: bool) -> list[str]:
    if not rows:
        return []
    return table(
        ["TIER", "POLICY", "RULE", "ACTION", "PART", "WHY", "ORIGIN"],
        ([row["tier"], named(row), *(row[key] for key in _CONSIDERED)] for row in rows),
        room(wide=wide, indent=_INDENT_MAX),
    )


def _more(rows: Sequence[Row], shown: Sequence[Row]) -> list[str]:
    more = len(rows) - len(shown)
    return [f"and {more} more (-o wide)"] if more else []


def _items(rule: Row) -> str:
    """`spec.ingress[0] from[1] ports[0]`: the rule, and which of its items matched."""
    found = [rule["rule"]]
    for item in (rule["peer"], rule["port"]):
        if item is not None:
            found.append(item.removeprefix(f"{rule['rule']}."))
    return " ".join(found)
