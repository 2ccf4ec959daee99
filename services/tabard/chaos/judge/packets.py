"""never-open: no packet passed that no state in its window of uncertainty would have allowed.

A packet is judged by the windows of both ends' nodes, and an exchange on an open flow as if it
opened it. Whoever sent must have held its address then, and so must whoever answered.
"""

from collections.abc import Iterator, Sequence

from tabard.chaos.judge.ahead import past_of, pods_observed
from tabard.chaos.judge.evidence import Evidence
from tabard.chaos.judge.windows import Windows
from tabard.chaos.record import Packet, Record
from tabard.dataplane.maps import Mode, Protocol
from tabard.events.observed import PodStarted, PodStopped
from tabard.invariants.open import Flow, Openness
from tabard.invariants.past import Pod, Window
from tabard.invariants.verdict import VIOLATIONS_SHOWN_MAX, Invariant, Verdict, Violation


def never_open(record: Record, evidence: Evidence) -> Verdict:
    """Hold each stamped packet against the whole ledger.

    Nothing counts as judged unless some packets passed and some had to be dropped, nor by a ledger
    of which only a part could be read.
    """
    if evidence.broken:
        return Verdict(Invariant.NEVER_OPEN, 0, "packets", note=evidence.broken)
    judge = PacketJudge(record, evidence)
    passed = forbidden = violations = 0
    told: list[Violation] = []
    for packet in record.packets:
        objection = judge.objection(packet)
        passed += packet.passed
        forbidden += bool(objection)
        if packet.passed and objection:
            violations += 1
            if len(told) < VIOLATIONS_SHOWN_MAX:
                what = f"{_named(packet)} passed, but {objection}"
                told.append(Violation(Invariant.NEVER_OPEN, what, packet.began))
    return Verdict(
        Invariant.NEVER_OPEN,
        judged=len(record.packets) if passed and forbidden else 0,
        unit="packets",
        violations=violations,
        told=tuple(told),
        note=f"{passed} passed; {forbidden} had to be dropped",
    )


class PacketJudge:
    """Says of a run's packets why they may not pass."""

    def __init__(self, record: Record, evidence: Evidence) -> None:
        observed = list(pods_observed(evidence.observed))
        self.windows = Windows(record, evidence.ledger)
        self.past = past_of(evidence.ledger, observed)
        self.stopped: dict[str, int] = {}
        """UID → when the pod's stop was stored on OBSERVED (Unix ns): it may be gone since."""
        self._openness = Openness(self.past, Mode[record.mode.upper()])
        self._may_come_to: dict[str, list[str]] = {}
        self._addresses: dict[str, frozenset[str]] = {}
        for at, event in observed:
            match event:
                case PodStarted():
                    self._note(event.uid, event.addresses)
                case PodStopped(uid):
                    self.stopped.setdefault(uid, at)
        for pod in self.past.pods.values():
            self._note(pod.uid, pod.addresses)
        self._answers: dict[tuple[Flow, Window, Window], bool] = {}

    def _note(self, uid: str, addresses: Sequence[str]) -> None:
        known = self._addresses.get(uid, frozenset())
        for address in addresses:
            if address not in known:
                self._may_come_to.setdefault(address, []).append(uid)
        self._addresses[uid] = known.union(addresses)

    def objection(self, packet: Packet) -> str:
        """Why it had to be dropped: no state that may have been in force allows it; "" if one
        does."""
        if packet.kind != "pod":
            return f"a {packet.kind} had forged it ({packet.how})"
        sender = self.past.pods.get(packet.source)
        if sender is None:
            return "no pod was ever bound or observed that has the sender's UID"
        sent = self.windows.of(sender.node, packet.began, packet.ended)
        if not self._held(sender, packet.source_address, sent):
            return f"its sender did not hold {packet.source_address} {_by(sent)}"
        receivers = list(self._receivers(packet))
        if not receivers:
            whoever = f"{packet.answered} did not hold" if packet.answered else "nobody held"
            return f"{whoever} {packet.destination_address} then"
        if any(self._may_pass(packet, sent, pod, window) for pod, window in receivers):
            return ""
        return f"no policies let it out {_by(sent)} and then in: " + ", ".join(
            f"at {pod.name} {_by(window)}" for pod, window in receivers
        )

    def may_come_to(self, address: str) -> Sequence[str]:
        """UIDs of the pods that were ever to have the address, oldest first."""
        return self._may_come_to.get(address, ())

    def _receivers(self, packet: Packet) -> Iterator[tuple[Pod, Window]]:
        """Who may have got it: those who held the address, of the name that answered."""
        for uid in self.may_come_to(packet.destination_address):
            pod = self.past.pods.get(uid)
            if pod is None or (packet.answered and pod.name != packet.answered):
                continue
            window = self.windows.of(pod.node, packet.began, packet.ended)
            if self._held(pod, packet.destination_address, window):
                yield pod, window

    def _held(self, pod: Pod, address: str, window: Window) -> bool:
        """Whether it held the address at some sequence of the window, or may have had it ahead of
        the ledger."""
        holders = self.past.holders.get(address)
        if holders is not None and pod.uid in holders.values(window):
            return True
        is_its_own = address in self._addresses.get(pod.uid, ())
        return is_its_own and pod.is_ahead(window.first) and bool(pod.at(window.first))

    def _may_pass(self, packet: Packet, sent: Window, pod: Pod, received: Window) -> bool:
        question = (_flow(packet, pod), sent, received)
        found = self._answers.get(question)
        if found is None:
            found = self._answers[question] = self._openness.may_pass(*question)
        return found

    def stays_allowed(self, packet: Packet, began: int, ended: int) -> bool:
        """Whether each state that may have been in force at any time between allows what `packet`
        is of, between two pods that stay what they are."""
        sender = self.past.pods.get(packet.source)
        receivers = [pod for pod, _ in self._receivers(packet)]
        if sender is None or len(receivers) != 1:
            return False
        ends = ((sender, packet.source_address), (receivers[0], packet.destination_address))
        windows = [self.windows.of(pod.node, began, ended) for pod, _ in ends]
        window = Window(min(each.first for each in windows), max(each.last for each in windows))
        for pod, address in ends:
            held = self.past.holders.get(address)
            if held is None or held.of(window.first) != pod.uid or held.changes(window):
                return False
            if pod.sets.changes(window):
                return False
        return all(
            self._may_pass(packet, Window(at, at), receivers[0], Window(at, at))
            for at in (window.first, *self.past.turns.changes(window))
        )


def _flow(packet: Packet, receiver: Pod) -> Flow:
    return Flow(
        packet.source,
        packet.source_address,
        receiver.uid,
        packet.destination_address,
        Protocol[packet.protocol].value,
        packet.port,
    )


def _named(packet: Packet) -> str:
    what = "a packet"
    if packet.opened:
        before_s = (packet.began - packet.opened) / 1_000_000_000
        what = f"an exchange on a flow that was opened {before_s:.1f} s before"
    by = f", answered by {packet.answered}" if packet.answered else ""
    return (
        f"{what} from {packet.source or packet.kind} ({packet.source_address}) to "
        f"{packet.destination_address} port {packet.port}/{packet.protocol}{by}"
    )


def _by(window: Window) -> str:
    if window.first == window.last:
        return f"by LEDGER/{window.first}"
    return f"by LEDGER/{window.first} to {window.last}"
