"""`tabard policy check` and `explain`: the verdict on a flow, the rules that gave it, and why."""

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from typing import Any

from tabard.cli.failing import Exit, Failure, fail
from tabard.cli.ground import Ground
from tabard.cli.printing import (
    GAP,
    Output,
    capped,
    room,
    show_line,
    show_lines,
    show_next,
    show_table,
    show_value,
    tell,
)
from tabard.cli.questions import RULING, Question
from tabard.cli.reasons import PORTS_SHOWN, connected, reasons, verdict
from tabard.cli.records import Row, moment, summary
from tabard.cli.rows import named
from tabard.cli.verdicts import decided, deciding
from tabard.cli.where import Where, follow_steps, ground
from tabard.events.codec import type_name
from tabard.ledger.fold import LedgerRecord
from tabard.ledger.provenance import Provenance
from tabard.ledger.state import State
from tabard.policy.engine import Engine

WHAT = "check the flow"
_END = ("role", "nodes", "address", "identity", "labels")
"""What `-o wide` shows of either end, beside its name."""


def check(
    question: Question,
    where: Where,
    follow: bool,
    timeout_s: float | None,
    output: Output,
) -> None:
    """Exit.DENIED if not all that was asked for may pass.

    `follow`: go on with each change, for `timeout_s` if not None.
    """
    if follow:
        rulings = Rulings(question, output)
        follow_steps(WHAT, where, rulings.see, timeout_s)
        allowed = rulings.allowed
    else:
        found = ground(WHAT, where)
        try:
            said, notes = question.answered(found, offline=bool(where.files))
        except Failure as error:
            when = "" if where.at is None else f"at LEDGER/{found.sequence} "
            fail(WHAT, Failure(f"{when}{error}", error.next, error.code))
        _tell(notes)
        _print(said, output, show_value)
        allowed = said["allowed"]
    if not allowed:
        raise SystemExit(Exit.DENIED)


class Rulings:
    """Prints the answer, and again whenever it is another, after the event that made it so."""

    def __init__(self, question: Question, output: Output) -> None:
        self.allowed = False
        self._question = question
        self._output = output
        self._before: tuple[Any, ...] | str = ""
        """What the answer was, or why there was none."""
        self._standing: tuple[Hashable, ...] = ()

    def see(self, state: State, provenance: Provenance, record: LedgerRecord | None) -> None:
        """One step of the ledger; Failure if there is no answer at the first (record is None)."""
        standing, before = self._question.standing(state), self._standing
        self._standing = standing
        if record is not None and standing == before and not isinstance(record.event, RULING):
            return
        found = Ground(state, Engine(state), provenance)
        try:
            said, notes = self._question.answered(found, offline=False)
        except Failure as error:
            if record is None:
                raise
            self.allowed = False
            if self._before != (why := str(error)):
                self._before = why
                tell(f"LEDGER/{record.sequence}: {why}")
            return
        self.allowed = said["allowed"]
        now = decided(said)
        if now == self._before:
            return
        self._before = now
        if record is not None and self._output in (Output.TABLE, Output.WIDE):
            what = summary(asdict(record.event))
            head = f"changed by LEDGER/{record.sequence}", moment(record.stored_at)
            show_line("")
            show_line(GAP.join((*head, type_name(record.event), what)), "bold")
        _tell(notes)
        _print(said, self._output, show_next)
        sys.stdout.flush()


def _tell(notes: Iterable[str]) -> None:
    for note in notes:
        tell(f"note: {note}")


def _print(said: Row, output: Output, document: Callable[[Row, Output], None]) -> None:
    match output:
        case Output.JSON | Output.YAML:
            document(said, output)
        case Output.NAME:
            for name in sorted(set(_names(said))):
                print(name)
        case _:
            _show(said, wide=output is Output.WIDE)


def _names(said: Row) -> Iterator[str]:
    """The policies that decide."""
    for each in said["checks"]:
        for half in (each["egress"], each["ingress"]):
            for row in deciding(half):
                yield f"{row['kind'].lower()}/{named(row)}"


def _show(said: Row, *, wide: bool) -> None:
    for _, of_port in groupby(said["checks"], itemgetter("asked", "protocol", "port")):
        checks = list(of_port)
        verdicts = ", ".join(f"{way}{_word(each)}" for way, each in _ways(checks))
        style = "green" if all(each["allowed"] for each in checks) else "red"
        flow = f"{_party(said['from'])} → {_party(said['to'])}"
        show_lines([(f"{verdicts}  {flow}, {_asked(checks, wide=wide)}", style)])
        for each in checks:
            indent = "  "
            if each["family"] is not None:
                print(f"  {each['family']}, {_addresses(each)}: {_word(each)}")
                indent = "    "
            for line in _halves(each, said, wide=wide):
                print(f"{indent}{line}")
    if wide:
        print()
        show_table(
            ["END", "ROLE", "NODE", "ADDRESS", "IDENTITY", "LABELS"],
            ([_party(end), *(end[key] for key in _END)] for end in (said["from"], said["to"])),
        )
    if said["events"]:
        print()
        show_table(
            ["EVENT", "TIME", "TYPE", "OF", "CAUSE"],
            (
                [
                    row["place"],
                    row["time"] if wide else moment(row["at"]),
                    row["type"],
                    row["of"],
                    row["cause"],
                ]
                for row in said["events"]
            ),
            room(wide=wide),
        )


def _halves(each: Row, said: Row, *, wide: bool) -> Iterator[str]:
    for direction, place in (("egress", "from"), ("ingress", "to")):
        half, end = each[direction], said[place]
        yield f"{direction:<8} {place} {_party(end)}: {verdict(half, end)}"
        for line in reasons(half, wide=wide):
            yield f"  {line}"
    halves = [half for half in (each["egress"], each["ingress"]) if half is not None]
    if not each["allowed"] and all(half["allowed"] for half in halves):
        yield "nothing passes both: what egress allows, ingress does not"


def _word(each: Row) -> str:
    return "allowed" if each["allowed"] else "DENIED"


def _ways(checks: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """What goes before each verdict on one port: `IPv4 `, or nothing if there is but one."""
    families = Counter(each["family"] for each in checks)
    for each in checks:
        way = each["family"] if families[each["family"]] == 1 else _addresses(each)
        yield (f"{way} " if way else ""), each


def _addresses(each: Row) -> str:
    return " → ".join(each[end] or "no address" for end in ("from", "to"))


def _party(party: Row) -> str:
    return named(party) if party["role"] == "pod" else str(party["asked"])


def _asked(checks: Sequence[Row], *, wide: bool) -> str:
    each = checks[0]
    if each["protocol"] is None:
        said = (f"{way}{_passing(one, wide=wide)}" for way, one in _ways(checks))
        return f"any port: {'; '.join(said)}"
    number = f"{each['port']}/{each['protocol']}"
    return number if each["asked"].lower() in _same(each) else f"{each['asked']} ({number})"


def _passing(each: Row, *, wide: bool) -> str:
    passing = connected(each["connections"])
    return ", ".join(passing if wide else capped(passing, PORTS_SHOWN)) or "none"


def _same(each: Row) -> tuple[str, ...]:
    """The ways to ask for a port that need no explanation."""
    return (f"{each['port']}/{each['protocol']}".lower(), str(each["port"]))
