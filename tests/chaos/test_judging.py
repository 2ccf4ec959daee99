"""The judges of a run's ledger and words, on runs in which something is wrong."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

import pytest

from checked import SETTINGS, Told, allocated, bound, claimed, cursor
from ledgers import append, append_raw
from rehearsals import SECOND, at, record
from tabard.bus.memory import MemoryBus
from tabard.bus.port import Stream
from tabard.chaos.judge import ledger as judge
from tabard.chaos.judge.convergence import convergence
from tabard.chaos.judge.evidence import Evidence, gathered
from tabard.chaos.record import CONVERGE_S_MAX, Acknowledged, Record, Seen, Word
from tabard.events import ledger as events
from tabard.events.chain import chain_of
from tabard.events.envelope import Envelope
from tabard.events.observed import NamespaceLabelsSet, ObservedEvent
from tabard.invariants.lost import payload_hash
from tabard.invariants.verdict import Verdict
from tabard.ledger.digest import digest
from tabard.ledger.fold import fold
from tabard.ledger.messages import observed

BEGUN = (claimed(), SETTINGS)
JOINED = (*BEGUN, events.NodeAdded("n1", (), ()), events.NodeAdded("n2", (), ()))
REUSED = (
    *JOINED,
    allocated(256, "web"),
    events.IdentityRetired(256),
    events.IdentityReleased(256),
    allocated(256, "db"),
)
RETIRED_AT, RELEASED_AT = 6, 7


async def evidence(*told: Told, seen: Sequence[ObservedEvent] = ()) -> Evidence:
    """A ledger whose event n was stored n seconds after the run began, and what was observed."""
    bus = MemoryBus()
    for event in seen:
        said = observed(event, Envelope(uuid.uuid4().bytes, "", 1))
        await bus.publish(Stream.OBSERVED, [said])
    for one in told:
        event, cause = one if isinstance(one, tuple) else (one, 0)
        await append(bus, event, cause=f"OBSERVED/{cause}" if cause else "")
    found = await gathered(bus)
    return replace(
        found,
        ledger=tuple(replace(each, stored_at=at(each.sequence)) for each in found.ledger),
        stored=tuple(replace(each, stored_at=at(each.sequence)) for each in found.stored),
    )


def empty() -> Record:
    made = record()
    for kept in (made.words, made.seen, made.acknowledged, made.injected):
        kept.clear()  # type: ignore[attr-defined]
    return made


def word(name: str, sequence: int, seconds: float, place: int) -> Word:
    return Word(name, "node", sequence, at(seconds), at(seconds), place=place)


def what(verdict: Verdict) -> str:
    return "\n".join(violation.what for violation in verdict.told)


async def test_evidence_is_the_whole_of_both_streams() -> None:
    found = await evidence(*REUSED, seen=[NamespaceLabelsSet("shop", ())])
    assert [each.sequence for each in found.ledger] == list(range(1, len(REUSED) + 1))
    assert [each.sequence for each in found.stored] == [each.sequence for each in found.ledger]
    assert len(found.observed) == 1
    assert found.broken == ""


async def test_evidence_ends_before_what_does_not_follow_and_says_so() -> None:
    bus = MemoryBus()
    await append(bus, claimed(), SETTINGS)
    await append_raw(bus, b"\xc1")
    found = await gathered(bus)
    assert "LEDGER/3" in found.broken


async def test_two_sets_of_one_number_are_found() -> None:
    held = judge.one_number_one_set(await evidence(*JOINED, allocated(256, "web")))
    assert held.held
    both = allocated(256, "web"), allocated(256, "db")
    assert "gives 256" in what(judge.one_number_one_set(await evidence(*JOINED, *both)))


async def test_a_pod_that_is_left_with_another_sets_number_is_found() -> None:
    pod = bound("a", 256, "db", "10.0.0.1")
    verdict = judge.one_number_one_set(await evidence(*JOINED, allocated(256, "web"), pod))
    assert verdict.violations


async def test_an_allocator_that_leads_by_its_own_word_alone_is_found() -> None:
    made, given = empty(), await evidence(*JOINED)
    said = Word("b", "allocator", 4, at(5), at(5), role="leading", epoch=1, holder="a", place=1)
    made.words.append(said)
    assert judge.fenced(made, given).held
    made.words.append(replace(said, holder="b", place=2))
    assert "b says it leads under epoch 1" in what(judge.fenced(made, given))


async def test_an_event_without_its_effect_is_found() -> None:
    labels = (("team", "a"),)
    seen = [NamespaceLabelsSet("shop", labels)]
    effect: Told = (events.NamespaceLabelled("shop", labels), 1)
    assert judge.exactly_once(await evidence(*BEGUN, effect, cursor(1), seen=seen)).held
    assert not judge.exactly_once(await evidence(*BEGUN, cursor(1), seen=seen)).held
    twice = await evidence(*BEGUN, effect, cursor(1), effect, cursor(1), seen=seen)
    assert not judge.exactly_once(twice).held
    assert "OBSERVED/0" in what(judge.exactly_once(await evidence(*BEGUN, seen=seen)))


async def test_a_number_is_reused_rightly_once_all_nodes_said_that_they_passed_its_end() -> None:
    made, given = empty(), await evidence(*REUSED)
    made.words += [word("n1", RETIRED_AT, 6.2, 1), word("n2", RETIRED_AT, 6.4, 2)]
    assert judge.safe_reuse(made, given).held


async def test_a_number_that_is_reused_before_a_node_said_so_is_found() -> None:
    made, given = empty(), await evidence(*REUSED)
    made.words += [word("n1", RETIRED_AT, 6.2, 1), word("n2", RETIRED_AT, RELEASED_AT + 0.1, 2)]
    assert "live node n2 said 0" in what(judge.safe_reuse(made, given))


async def test_what_a_node_may_have_said_in_a_word_that_was_missed_is_no_violation() -> None:
    made, given = empty(), await evidence(*REUSED)
    made.words += [word("n1", RETIRED_AT, 6.2, 1), word("n2", RETIRED_AT, RELEASED_AT + 0.1, 3)]
    assert judge.safe_reuse(made, given).held
    # The gap is after the number was used again: nothing that was said in it came in time.
    late = word("n1", RETIRED_AT, 9, 2)
    made.words[1:] = [late, word("n2", RETIRED_AT, 9.5, 4)]
    assert not judge.safe_reuse(made, given).held


async def test_an_acknowledged_event_that_is_gone_or_another_is_found() -> None:
    made, given = empty(), await evidence(*JOINED, seen=[NamespaceLabelsSet("shop", ())])
    (stored,) = given.observed
    kept = Acknowledged(1, "id", payload_hash(stored.payload), "namespace.labels_set", at(1))
    made.acknowledged = [kept]
    assert judge.nothing_lost(made, given).held
    made.acknowledged = [replace(kept, payload_hash="0" * 32)]
    assert "another event" in what(judge.nothing_lost(made, given))
    made.acknowledged = [kept, replace(kept, sequence=2)]
    lost = judge.nothing_lost(made, given)
    assert "OBSERVED/2 was acknowledged" in what(lost)
    assert lost.told[0].at == at(1)


async def test_a_ledger_event_that_was_shown_and_is_another_now_is_found() -> None:
    made, given = empty(), await evidence(*JOINED)
    shown = (chain_of(given.stored[1].payload) or b"").hex()
    made.seen = [Seen(2, shown, at(2))]
    assert judge.nothing_lost(made, given).held
    made.seen.append(Seen(3, shown, at(3)))
    assert "LEDGER/3 is another event" in what(judge.nothing_lost(made, given))


async def test_a_node_whose_state_is_another_is_found() -> None:
    made, given = empty(), await evidence(*REUSED)
    state = fold(given.ledger[:4])
    state.chain = chain_of(given.stored[3].payload) or b""
    said = replace(word("n1", 4, 5, 1), digest=digest(state).hex(), digest_at=4)
    made.words = [said]
    verdict = judge.deterministic(made, given)
    assert (verdict.judged, verdict.violations) == (2, 0)
    made.words.append(replace(said, name="n2", digest="00" * 16, place=2))
    assert "by n2" in what(judge.deterministic(made, given))


async def test_a_ledger_that_cannot_be_folded_is_no_state_at_all() -> None:
    made, given = empty(), await evidence(*JOINED, events.IdentityRetired(300))
    assert "cannot be folded" in what(judge.deterministic(made, given))
    assert not judge.deterministic(made, given).held
    assert judge.safe_reuse(made, given).judged == len(given.ledger)


@pytest.mark.parametrize(
    ("took_s", "violations"), [(CONVERGE_S_MAX, 0), (CONVERGE_S_MAX + 1, 1), (None, 1)]
)
def test_a_cluster_that_takes_longer_than_it_may_is_found(
    took_s: float | None, violations: int
) -> None:
    made = record()
    first = made.injected[0]
    converged = 0 if took_s is None else first.healed + int(took_s * SECOND)
    made.injected[0] = replace(first, converged=converged)
    verdict = convergence(made)
    assert (verdict.judged, verdict.violations) == (len(made.injected), violations)
