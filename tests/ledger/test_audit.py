from tabard.bus.port import Stored, Stream
from tabard.events.chain import GENESIS
from tabard.events.envelope import Envelope
from tabard.events.ledger import CursorAdvanced
from tabard.ledger.audit import TOLD_MAX, Audit, Audited, faults
from tabard.ledger.messages import sealed


def ledger(last: int, forged: int = 0) -> list[Stored]:
    events = [
        (CursorAdvanced("OBSERVED", n + (n == forged)), Envelope(bytes(16), "k", 1))
        for n in range(1, last + 1)
    ]
    messages, _ = sealed(GENESIS, events)
    return [Stored(n, each.subject, each.payload, n) for n, each in enumerate(messages, 1)]


def audited(messages: list[Stored], last: int = 10, stream: Stream = Stream.LEDGER) -> Audited:
    audit = Audit(stream, 1, last)
    for message in messages:
        audit.take([message])
    return audit.result()


def flipped(message: Stored) -> Stored:
    payload = bytearray(message.payload)
    payload[5] ^= 1
    return Stored(message.sequence, message.subject, bytes(payload), message.stored_at)


def test_a_whole_ledger_has_no_fault() -> None:
    found = audited(ledger(10))
    assert (found.messages, found.missing, found.gaps, found.broken) == (10, 0, (), ())
    assert faults({"a": found, "b": found}) == {"a": (), "b": ()}


def test_gaps_are_named_also_at_the_end_and_at_the_beginning() -> None:
    whole = ledger(10)
    found = audited([whole[1], *whole[4:8]])
    assert found.gaps == ((1, 1), (3, 4), (9, 10))
    assert found.missing == 5
    assert not found.broken  # what follows a gap cannot be held against what is not there
    assert faults({"a": found, "b": audited(whole)}) == {
        "a": ("5 messages are missing: 1, 3-4, 9-10",),
        "b": (),
    }


def test_gaps_are_named_up_to_a_bound_and_all_counted() -> None:
    last = 2 * TOLD_MAX + 2
    found = audited([each for each in ledger(last) if each.sequence % 2], last)
    assert (found.missing, len(found.gaps)) == (TOLD_MAX + 1, TOLD_MAX)


def test_a_changed_event_is_told_by_the_chain_against_any_number_of_replicas() -> None:
    whole = ledger(10)
    changed = audited([*whole[:4], flipped(whole[4]), *whole[5:]])
    assert changed.broken == (5,)
    told = ("1 events do not follow from the one before: LEDGER/5",)
    assert faults({"a": changed, "b": audited(whole)}) == {"a": told, "b": ()}
    assert faults({"a": changed, "b": changed, "c": audited(whole)}) == {
        "a": told,
        "b": told,
        "c": (),
    }


def test_what_all_replicas_hold_alike_is_no_replicas_fault() -> None:
    whole = ledger(10)
    changed = audited([*whole[:4], flipped(whole[4]), *whole[5:]])
    assert faults({"a": changed, "b": changed}) == {"a": (), "b": ()}
    assert faults({"a": changed}) == {"a": ()}


def test_between_two_ledgers_that_are_chained_each_the_majority_says() -> None:
    one, other = audited(ledger(10)), audited(ledger(10, forged=5))
    assert not one.broken
    assert not other.broken
    assert faults({"a": one, "b": other, "c": one}) == {
        "a": (),
        "b": ("it holds other messages than the others",),
        "c": (),
    }
    unknown = ("replicas hold different messages, and no majority says which are right",)
    assert faults({"a": one, "b": other}) == {"a": unknown, "b": unknown}


def test_a_stream_without_a_chain_is_held_against_order_and_the_others() -> None:
    plain = [Stored(n, "tabard.observed.x", b"x", n) for n in range(1, 11)]
    assert not audited(plain, stream=Stream.OBSERVED).broken
    other = [*plain[:4], flipped(Stored(5, "tabard.observed.x", b"xxxxxx", 5)), *plain[5:]]
    found = {
        name: audited(each, stream=Stream.OBSERVED)
        for name, each in (("a", plain), ("b", other), ("c", plain))
    }
    assert faults(found)["b"] == ("it holds other messages than the others",)


def test_a_ledger_that_was_trimmed_begins_with_what_its_first_event_claims() -> None:
    audit = Audit(Stream.LEDGER, 4, 10)
    audit.take(ledger(10)[3:])
    assert (audit.result().broken, audit.result().missing) == ((), 0)
