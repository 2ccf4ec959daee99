"""`tabard policy diff`: who may speak to whom on one side and not on the other, and why."""

from collections.abc import Iterator, Sequence

from tabard.cli.contrast import compared
from tabard.cli.failing import Exit
from tabard.cli.printing import Output, counted, room, show_table, show_value, tell
from tabard.cli.reasons import connected
from tabard.cli.records import Row
from tabard.cli.rows import named
from tabard.cli.sides import sides, trouble
from tabard.cli.tables import Column, laid_out
from tabard.cli.where import Where

WHAT = "compare the policies"


def diff(before: Where, after: Where, workloads: Where | None, output: Output) -> None:
    """Exit.FAILED if something is allowed or denied that was not; Exit.USAGE if it cannot be told.

    SideError if there are no workloads.
    """
    with trouble():
        one, other = sides(WHAT, before, after, workloads)
    said = compared(one, other)
    match output:
        case Output.JSON | Output.YAML:
            show_value(said, output)
        case Output.NAME:
            for row in said["changes"]:
                for source, destination in _pairs(row):
                    print(f"{source} {destination}")
        case _:
            if said["changes"]:
                wide = output is Output.WIDE
                rows = [_short(row, said["compared"]) for row in said["changes"]]
                show_table(*laid_out(COLUMNS, rows, wide=wide), room(wide=wide))
    for side in ("before", "after"):
        if names := said["only"][side]:
            tell(f"only {side}, and compared with nothing: {', '.join(names)}")
    if not said["changes"]:
        tell(f"no verdict differs between {counted(said['compared'], 'party', 'parties')}")
        return
    tell(", ".join(_counts(said["changes"])))
    raise SystemExit(Exit.FAILED)


def _short(row: Row, compared: int) -> Row:
    """The row as a table has it: all of them are `everyone`."""
    ends = {end: row[end] if len(row[end]) < compared else ["everyone"] for end in ("from", "to")}
    return row | ends


def _counts(changes: Sequence[Row]) -> Iterator[str]:
    """`3 pairs allowed`, `1 pair denied`"""
    for change in ("allowed", "denied"):
        pairs = {pair for row in changes if row["change"] == change for pair in _pairs(row)}
        if pairs:
            yield f"{counted(len(pairs), 'pair')} {change}"


def _pairs(row: Row) -> Iterator[tuple[str, str]]:
    for source in row["from"]:
        for destination in row["to"]:
            yield source, destination


def _said(half: Row | None) -> str:
    """`shop/web spec.ingress[0]`, or whose isolation it is that no rule opens."""
    if half is None:
        return "no policy can hold"
    if half["rule"] is not None:
        rule = half["rule"]
        return f"{rule['action']} by {named(rule)} {rule['rule']}"
    if half["reason"] == "denied_policy" and half["isolated_by"]:
        return f"no rule of {', '.join(map(named, half['isolated_by']))}"
    if half["reason"] == "allowed_no_policy":
        return "no policy isolates it"
    return str(half["reason"]).replace("_", " ")


def _because(row: Row) -> list[str]:
    return [
        f"{each['direction']}: {_said(each['before'])} → {_said(each['after'])}"
        for each in row["why"]
    ]


def _origins(row: Row) -> list[str]:
    found: dict[str, None] = {}
    for each in row["why"]:
        for half in (each["before"], each["after"]):
            if half and half["rule"]:
                found.setdefault(half["rule"]["origin"])
            elif half:
                found.update(dict.fromkeys(policy["origin"] for policy in half["isolated_by"]))
    return [origin for origin in found if origin]


COLUMNS: Sequence[Column] = (
    Column("CHANGE", "change"),
    Column("FROM", "from"),
    Column("TO", "to"),
    Column("CONNECTIONS", "connections", whole=lambda row: connected(row["connections"])),
    Column("BECAUSE", "why", whole=_because),
    Column("ORIGIN", "why", whole=_origins, wide=True),
)
