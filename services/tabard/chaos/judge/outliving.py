"""enforcement-outlives-control: what was allowed went on passing while control alone was down."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from tabard.chaos.judge.evidence import Evidence
from tabard.chaos.judge.packets import PacketJudge
from tabard.chaos.record import CONVERGE_S_MAX, Packet, Record
from tabard.invariants.verdict import VIOLATIONS_SHOWN_MAX, Invariant, Verdict, Violation

SILENCE_S_MAX = 4.0
"""Longest that all packets of a pair may stay unanswered: how late a listener may be for its turn
on a busy machine, and TCP with its next try."""
SILENT_PACKETS_MIN = 3
"""Fewer packets that were not answered are no silence."""
NANOSECONDS = 1_000_000_000
UNIT = "packets while control alone was down"

Stretch = tuple[int, int]
"""From when to when, in Unix nanoseconds."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Packets of one pair in a row, none of which was answered, after one that was."""

    answered: Packet
    packets: tuple[Packet, ...]

    @property
    def began(self) -> int:
        return self.packets[0].began

    @property
    def ended(self) -> int:
        return self.packets[-1].ended

    @property
    def seconds(self) -> float:
        return (self.ended - self.began) / NANOSECONDS

    @property
    def is_long(self) -> bool:
        return self.seconds > SILENCE_S_MAX and len(self.packets) >= SILENT_PACKETS_MIN


def outlives_control(record: Record, evidence: Evidence, spared: Collection[str]) -> Verdict:
    """Hold the packets of pairs that stayed allowed against each fault of the scenarios `spared`,
    which stop control and nothing else, from its injection until the cluster had converged.

    Openings of flows and the exchanges on each that stays open are judged by themselves. If none
    passed, or only a part of the ledger could be read, nothing was judged.
    """
    if evidence.broken:
        return Verdict(Invariant.ENFORCEMENT_OUTLIVES_CONTROL, 0, UNIT, note=evidence.broken)
    judge = PacketJudge(record, evidence)
    stretches = _joined(
        (each.began, max(each.healed, each.converged))
        for each in record.injected
        if each.scenario in spared
    )
    passed, lost = 0, 0
    longest = 0.0
    found: list[Violation] = []
    for packets in _by_pair(record.packets):
        passed += sum(
            each.passed and _is_within(each, *some) for each in packets for some in stretches
        )
        for silence in _silences(packets, stretches):
            if not _had_to_pass(judge, silence):
                continue
            lost += len(silence.packets)
            longest = max(longest, silence.seconds)
            if silence.is_long:
                found.append(_violation(silence))
    return Verdict(
        Invariant.ENFORCEMENT_OUTLIVES_CONTROL,
        judged=passed + lost if passed else 0,
        unit=UNIT,
        violations=len(found),
        told=tuple(sorted(found, key=lambda each: each.at)[:VIOLATIONS_SHOWN_MAX]),
        note=f"{lost} of them were not answered; no pair that stayed allowed was silent for longer "
        f"than {longest:.1f} s",
    )


def _by_pair(packets: Iterable[Packet]) -> Iterator[list[Packet]]:
    """Pods' packets, those that open a flow by pair and the exchanges by flow, as they ended."""

    def pair(packet: Packet) -> tuple[str, str, int, str, int]:
        return (
            packet.source,
            packet.destination_address,
            packet.port,
            packet.protocol,
            packet.opened,
        )

    own = [packet for packet in packets if packet.kind == "pod"]
    own.sort(key=lambda packet: (pair(packet), packet.ended))
    for _, group in groupby(own, key=pair):
        yield list(group)


def _joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same time in stretches that do not touch each other."""
    found: list[Stretch] = []
    for began, ended in sorted(stretches):
        if found and began <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], ended))
        else:
            found.append((began, ended))
    return found


def _is_within(packet: Packet, began: int, ended: int) -> bool:
    return began <= packet.began and packet.ended <= ended


def _silences(packets: Iterable[Packet], stretches: Iterable[Stretch]) -> Iterator[Silence]:
    """The silences of one pair that fall into the stretches, as far as they do."""
    answered: Packet | None = None
    for passed, group in groupby(packets, key=lambda each: each.passed):
        if passed:
            *_, answered = group
        elif answered is not None:
            silent = list(group)
            for some in stretches:
                if within := tuple(each for each in silent if _is_within(each, *some)):
                    yield Silence(answered, within)


def _had_to_pass(judge: PacketJudge, silence: Silence) -> bool:
    """Whether what was answered before it stayed allowed until its end, and between the same pods,
    none of which may have been taken down by then without the ledger saying so already."""
    before = silence.answered
    if not judge.stays_allowed(before, before.began, silence.ended):
        return False
    last = silence.ended + int(CONVERGE_S_MAX * NANOSECONDS)
    uids = (before.source, *judge.may_come_to(before.destination_address))
    return all(judge.stopped.get(uid, last) >= last for uid in uids)


def _violation(silence: Silence) -> Violation:
    first = silence.packets[0]
    return Violation(
        Invariant.ENFORCEMENT_OUTLIVES_CONTROL,
        f"{first.source} ({first.source_address}) was allowed "
        f"{first.destination_address} port {first.port}/{first.protocol} all the time, and "
        f"{len(silence.packets)} packets in {silence.seconds:.1f} s were not answered"
        + (f", on a flow opened at {first.opened}" if first.opened else ""),
        silence.began,
    )
