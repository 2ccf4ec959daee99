"""Ledgers of earlier releases come to the same state, and let the same packets pass, for ever."""

from collections import Counter
from pathlib import Path
from typing import get_args

import pytest

from golden import files, story
from golden.files import Golden
from golden.verdicts import asked, said
from tabard.events.ledger import IdentityAllocated, LedgerEvent, PolicyAccepted
from tabard.events.observed import ObservedEvent
from tabard.ledger.digest import COLUMNS, digest, rows
from tabard.policy.reading import KINDS

EVERY = files.every()
NEVER_PASSED = {
    ("domain-names", "TCP/53"): "it was said to pass through the DNS proxy, which took UDP alone",
}
"""What was written as allowed, and no dataplane let pass: it may be denied by now."""
goldens = pytest.mark.parametrize("golden", EVERY, ids=[golden.name for golden in EVERY])


@goldens
def test_an_old_ledger_comes_to_the_state_that_it_came_to(golden: Golden) -> None:
    found = {
        state.sequence: digest(state).hex()
        for state, _ in golden.replay()
        if state.sequence in golden.digests
    }
    assert found == golden.digests
    assert len(found) > 3


@goldens
def test_an_old_ledgers_maps_let_pass_what_they_let_pass(golden: Golden) -> None:
    expected = golden.verdicts()
    for state, _ in golden.replay():
        if (lines := expected.pop(state.sequence, None)) is None:
            continue
        for found, line in zip(said(state, asked(lines)), lines, strict=True):
            if (golden.name, line.split()[2]) in NEVER_PASSED:
                line = _closed(line, found)
            assert found == line, f"at LEDGER/{state.sequence}"
    assert not expected


def _closed(line: str, found: str) -> str:
    """The line with what is denied now denied."""
    *flow, marks = line.split()
    now = found.split()[-1]
    return " ".join(
        [*flow, "".join("-" if new == "-" else old for old, new in zip(marks, now, strict=True))]
    )


def test_every_event_of_the_ledger_is_in_some_golden() -> None:
    found = {type(record.event) for golden in EVERY for _, record in golden.replay() if record}
    assert found == set(get_args(LedgerEvent)), "add a golden with the new event (see README.md)"


def test_every_observed_event_is_in_some_golden() -> None:
    found = {type(record.event) for golden in EVERY for record in golden.observed}
    assert found == set(get_args(ObservedEvent)), "add a golden with the new event (see README.md)"


def test_every_kind_of_policy_is_in_force_in_some_golden() -> None:
    found = {
        record.event.kind
        for golden in EVERY
        for _, record in golden.replay()
        if record and isinstance(record.event, PolicyAccepted)
    }
    # The conformance runner registers a kind of its own, which no user's ledger has.
    kinds = {kind for kind, versions in KINDS.items() if not versions[0].startswith("conformance.")}
    assert found == kinds, "add a golden with the new kind (see README.md)"


def test_every_section_of_the_digest_is_in_some_golden() -> None:
    found = {
        row[0]
        for golden in EVERY
        for state, _ in golden.replay()
        if state.sequence in golden.digests
        for row in rows(state)
    }
    assert found == set(COLUMNS), "add a golden with the new section (see README.md)"


@goldens
def test_numbers_were_used_again_and_policies_both_allowed_and_denied(golden: Golden) -> None:
    numbers = Counter(
        record.event.identity
        for _, record in golden.replay()
        if record and isinstance(record.event, IdentityAllocated)
    )
    assert max(numbers.values()) > 1
    marks = {line.split()[-1] for lines in golden.verdicts().values() for line in lines}
    assert {"++++", "+-+-"} <= marks


def test_a_golden_can_be_added_but_never_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "HERE", tmp_path)
    told = story.every_event()
    ledger = [message.payload for message in told.messages]
    golden = files.add("new", "a try", told.told, ledger)
    assert files.every() == [golden]
    *_, (state, _) = golden.replay()
    assert state == told.state
    assert golden.digests[len(ledger)] == digest(told.state).hex()
    with pytest.raises(FileExistsError):
        files.add("new", "another", [], [])
    assert golden.digests[len(ledger)] == digest(told.state).hex()
