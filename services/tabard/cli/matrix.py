"""`tabard policy matrix`: who may speak to whom, as a table for each namespace spoken to."""

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from tabard.cli.ground import Ground
from tabard.cli.kinds import By
from tabard.cli.naming import PortAsked
from tabard.cli.pairs import Group, Pairs, Selector, document, group
from tabard.cli.printing import GAP, Output, capped, show_table, show_value, tell
from tabard.cli.reasons import PORTS_SHOWN, connected
from tabard.cli.records import Row
from tabard.cli.rows import connections, named
from tabard.cli.tables import Column, laid_out
from tabard.cli.watching import Changes
from tabard.cli.where import Where, follow_states, ground

SOME = "~"
"""Before what only some pods of the row may send to some of the column, or on some addresses."""
_DOES = {"deny": " denies", "pass": " passes"}
"""What is said of a rule that does not allow."""
WHAT = "say who may speak to whom"
_NOT_ASKED = " "
_TCP = re.compile(r"(?<=\d)/TCP")
"""What a cell leaves out; `all/TCP` is not all."""


def matrix(
    namespace: str,
    selector: Selector,
    by: By,
    wanted: Sequence[PortAsked],
    addresses: Sequence[str],
    where: Where,
    follow: bool,
    timeout_s: float | None,
    output: Output,
) -> None:
    """`follow`: go on with the pairs that change, for `timeout_s` if not None."""

    def pairs_of(found: Ground) -> Pairs:
        return Pairs(found, group(found, by, addresses, namespace, selector), wanted)

    if follow:
        changes = Changes(COLUMNS, itemgetter("from", "to"), _name, output, frozenset({"rules"}))

        def see(found: Ground) -> None:
            changes.show(found.state.sequence, pairs_of(found).items())

        follow_states(WHAT, where, see, timeout_s)
        return
    found = ground(WHAT, where)
    pairs = pairs_of(found)
    if where.files and found.engine.networks:
        tell("note: manifests tell no pod's address; a CIDR holds no pod here")
    match output:
        case Output.JSON | Output.YAML:
            show_value(document(found, pairs, by), output)
        case Output.NAME:
            for row in pairs.items():
                print(_name(row))
        case Output.WIDE:
            show_table(*laid_out(COLUMNS, pairs.items(), wide=True))
        case _:
            if not any(each.chosen for each in pairs.groups):
                tell("no pods")
            _show_blocks(pairs)


def _name(row: Row) -> str:
    return f"{row['from']} {row['to']}"


def _rules(row: Row) -> list[str]:
    found = {
        f"{named(rule)} {rule['rule']}{_DOES.get(rule['action'], '')}" for rule in row["rules"]
    }
    return sorted(found)


def _text(row: Row) -> str:
    """`80/TCP,53/UDP`, `all` or `-`"""
    partly = row["some"] != row["connections"]
    shown = ",".join(connected(row["some"]))
    return (SOME if partly else "") + (shown or "-")


COLUMNS = (
    Column("FROM", "from"),
    Column("TO", "to"),
    Column("CONNECTIONS", "some", whole=_text),
    Column("RULES", "rules", whole=_rules, wide=True),
)
"""Of pairs, a line each."""


def _show_blocks(pairs: Pairs) -> None:
    """A table for each namespace spoken to; whoever may say nothing there is named below it."""
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    partly = printed = False
    for namespace, members in groupby(pairs.groups, key=lambda each: each.namespace):
        destinations = list(members)
        lines, silent = [], []
        for source in pairs.groups:
            if not any(pairs.asked(source, each) for each in destinations):
                continue
            cells = [_cell(pairs, source, each) for each in destinations]
            if any(text not in ("-", _NOT_ASKED) for text in cells):
                lines.append([source.name, *cells])
            else:
                silent.append(source.name)
        if not lines and not silent:
            continue
        if printed:
            print()
        printed = True
        partly |= any(text.startswith(SOME) for line in lines for text in line)
        head = [f"TO {namespace or 'outside'}", *(_short(each) for each in destinations)]
        for columns in fitting([head, *lines], room):
            show_table([head[0], *head[columns]], ([line[0], *line[columns]] for line in lines))
        if silent:
            print(f"nothing from {', '.join(silent)}")
    if partly:
        tell(
            f"{SOME} marks what only some pods of the row may send to some of the column, "
            "or on some of their addresses only: -o wide"
        )


def _cell(pairs: Pairs, source: Group, destination: Group) -> str:
    if not pairs.asked(source, destination):
        return _NOT_ASKED
    cell = pairs.cell(source, destination)
    every, some = connections(cell.every), connections(cell.some)
    shown = ",".join(capped(connected(some), PORTS_SHOWN)) or "-"
    return _TCP.sub("", (SOME if some != every else "") + shown)


def _short(group: Group) -> str:
    """The name without the namespace that stands above the block."""
    return group.name.removeprefix(f"{group.namespace}/")


def fitting(lines: Sequence[Sequence[str]], room: int | None) -> Iterator[slice]:
    """The columns after the first in runs that fit `room` characters beside it (None: any)."""
    if room is None:
        yield slice(1, None)
        return
    widths = [max(len(line[at]) for line in lines) + len(GAP) for at in range(len(lines[0]))]
    first, used = 1, widths[0]
    for at in range(1, len(widths)):
        if used + widths[at] - len(GAP) > room and at > first:
            yield slice(first, at)
            first, used = at, widths[0]
        used += widths[at]
    yield slice(first, None)
