import pytest

from tabard.bus.port import Stored, Stream
from tabard.events import chain, ledger, observed, status
from tabard.events.envelope import Envelope
from tabard.events.errors import MisplacedError, UndecodableError
from tabard.ledger import messages

ENVELOPE = Envelope(b"0123456789abcdef", "k", 1)


def stored(message: messages.Outgoing, sequence: int) -> Stored:
    return Stored(sequence, message.subject, message.payload, 0)


def test_an_observed_event_has_its_type_as_subject_and_its_id_against_doubles() -> None:
    message = messages.observed(observed.PodStopped("u"), ENVELOPE)
    assert message.subject == "tabard.observed.pod.stopped"
    assert message.id == ENVELOPE.id.hex()
    record = messages.recorded(Stream.OBSERVED, stored(message, 3))
    assert (record.place, record.event) == ("OBSERVED/3", observed.PodStopped("u"))


def test_a_quarantine_is_found_by_the_sequence_that_it_is_about() -> None:
    request = messages.observed(observed.QuarantineRequested("LEDGER", 9, "bad"), ENVELOPE)
    assert request.subject == messages.quarantine_subject(Stream.OBSERVED, "LEDGER", 9)
    assert request.subject == "tabard.observed.quarantine.requested.LEDGER.9"
    sealed, _ = messages.sealed(
        chain.GENESIS, [(ledger.EventQuarantined("LEDGER", 9, "bad"), ENVELOPE)]
    )
    assert sealed[0].subject == messages.quarantine_subject(Stream.LEDGER, "LEDGER", 9)


def test_each_node_has_one_status_subject() -> None:
    word = status.NodeStatus("node.a", 7, "memory", 0, ())
    message = messages.status(word, ENVELOPE)
    assert message.subject == "tabard.status.node.node_a" == messages.status_subject("node.a")
    assert message.id == ""


def test_no_two_names_are_one_token() -> None:
    names = [
        "a.b",
        "a_b",
        "a=5Fb",
        "a-b",
        "ab",
        "a b",
        "a.b.",
        "A.b",
        "a*b",
        "a>b",
        "ä",
        "",
        "=",
        "_",
    ]
    tokens = [messages.node_token(name) for name in names]
    assert len(set(tokens)) == len(names)
    assert not any(set(token) & set(". *>") for token in tokens)
    assert tokens[:3] == ["a_b", "a=5Fb", "a=3D5Fb"]
    assert len(set(map(messages.allocator_subject, names))) == len(names)


SAID: list[tuple[Stream, messages.Outgoing, str]] = [
    (
        Stream.STATUS,
        messages.status(status.NodeStatus("n1", 7, "memory", 0, ()), ENVELOPE),
        "tabard.status.node.n1",
    ),
    (
        Stream.FLOWS,
        messages.flows(status.FlowsSeen("n1", 0, ()), ENVELOPE),
        "tabard.flows.n1",
    ),
    (
        Stream.OBSERVED,
        messages.observed(observed.NodeJoined("n1", (), ()), ENVELOPE),
        "tabard.observed.node.joined.n1",
    ),
    (
        Stream.OBSERVED,
        messages.observed(observed.NameAnswered("n1", "a.org", (), 1), ENVELOPE),
        "tabard.observed.name.answered.n1",
    ),
    (
        Stream.OBSERVED,
        messages.observed(observed.PodStopped("u"), ENVELOPE),
        "tabard.observed.pod.stopped",
    ),
]


@pytest.mark.parametrize(("stream", "message", "own"), SAID)
def test_what_is_said_counts_on_its_own_subject_alone(
    stream: Stream, message: messages.Outgoing, own: str
) -> None:
    assert message.subject == own
    assert messages.recorded(stream, stored(message, 1)).event
    others = {own.replace("n1", "n2"), own.replace(".n1", ""), own + ".n1"} - {own}
    others |= {"tabard.observed.pod.started"}
    for other in others:
        with pytest.raises(MisplacedError, match=own):
            messages.recorded(stream, Stored(1, other, message.payload, 0))


def test_nothing_that_a_node_may_write_holds_anybody_up() -> None:
    unreadable = UndecodableError("?")
    for name, held in (
        ("node.joined.n1", False),
        ("name.answered.n1", False),
        ("node.left", True),
        ("pod.started", True),
    ):
        junk = Stored(1, f"tabard.observed.{name}", b"?", 0)
        assert messages.holds_up(junk, unreadable) == held
        assert not messages.holds_up(junk, MisplacedError("?"))


def test_a_sealed_batch_is_chained_and_says_where_it_ends() -> None:
    batch = [(ledger.CursorAdvanced("OBSERVED", number), ENVELOPE) for number in range(3)]
    sealed, last = messages.sealed(chain.GENESIS, batch)
    previous = chain.GENESIS
    for number, message in enumerate(sealed):
        assert message.subject == "tabard.ledger.cursor.advanced"
        previous = chain.follow(previous, message.payload, "here")
        event = messages.recorded(Stream.LEDGER, stored(message, 1)).event
        assert event == ledger.CursorAdvanced("OBSERVED", number)
    assert previous == last
    assert messages.sealed(last, []) == ([], last)


def test_a_first_cause_is_its_own_story() -> None:
    first = messages.first_cause("k", 5, b"0123456789abcdef")
    assert (first.id, first.correlation, first.cause) == (first.correlation, first.id, "")
    assert messages.first_cause("k", 5).id != messages.first_cause("k", 5).id
