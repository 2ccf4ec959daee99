import pytest

from deciding import Desk, namespace, pairs, started, stopped
from tabard.allocator import batch as module
from tabard.allocator.batch import Batch
from tabard.bus.port import BATCH_MESSAGES_MAX
from tabard.events.ledger import CursorAdvanced, EndpointTombstoned, NamespaceLabelled


def test_a_batch_holds_as_many_events_as_an_append_takes_with_the_cursor() -> None:
    desk = Desk()
    batch = Batch(desk.state, desk.indexes, 0)
    batch.add([EndpointTombstoned(f"p{number}") for number in range(BATCH_MESSAGES_MAX - 1)])
    assert batch.room == 0
    batch.close(5)
    assert len(batch.messages) == BATCH_MESSAGES_MAX
    assert desk.state.cursors == {"OBSERVED": 5}
    assert batch.expected_last == 0
    assert desk.state.sequence == BATCH_MESSAGES_MAX
    late = Batch(desk.state, desk.indexes, 0)
    late.add([EndpointTombstoned(f"q{number}") for number in range(BATCH_MESSAGES_MAX)])
    with pytest.raises(AssertionError):
        late.close(5)


def test_a_batch_full_of_bytes_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES_MAX", 2_000)
    desk = Desk()
    batch = Batch(desk.state, desk.indexes, 0)
    batch.add([NamespaceLabelled("a", pairs({"k": "v" * 1_000}))])
    assert batch.room > 0
    batch.add([NamespaceLabelled("b", pairs({"k": "v" * 1_000}))])
    assert batch.room == 0


def test_the_ledger_folded_is_the_state_that_wrote_it() -> None:
    desk = Desk()
    desk.observe(namespace("default", team="red"))
    desk.observe(started("a", {"app": "web"}, "10.0.0.1"))
    desk.observe(stopped("a"))
    assert desk.refolded() == desk.state


def test_every_batch_ends_with_the_cursor() -> None:
    desk = Desk()
    desk.observe(started("a"))
    assert desk.messages[-1].subject == "tabard.ledger.cursor.advanced"
    assert CursorAdvanced("OBSERVED", 1).sequence == desk.state.cursors["OBSERVED"]
