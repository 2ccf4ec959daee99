import dataclasses

import pytest

from deciding import SETTINGS
from tabard.allocator.leadership import SettingsMismatch, take_lead
from tabard.events.ledger import EpochClaimed
from tabard.ledger.fold import apply
from tabard.ledger.state import State


def test_the_first_leader_sets_the_settings_and_later_ones_do_not() -> None:
    state = State()
    assert take_lead(state, "a", SETTINGS) == [EpochClaimed(1, "a"), SETTINGS]
    for sequence, event in enumerate(take_lead(state, "a", SETTINGS), 1):
        apply(state, event, sequence, 0)
    assert take_lead(state, "b", SETTINGS) == [EpochClaimed(2, "b")]


def test_other_settings_than_the_ledgers_are_refused_by_name() -> None:
    state = State()
    apply(state, SETTINGS, 1, 0)
    other = dataclasses.replace(SETTINGS, cluster_bits=4, retire_grace_ms=5)
    with pytest.raises(SettingsMismatch) as caught:
        take_lead(state, "a", other)
    said = str(caught.value)
    assert "cluster_bits is 4, but the ledger was begun with 8" in said
    assert "retire_grace_ms is 5" in said
    assert "cluster_id" not in said


def test_enforcement_alone_may_be_changed_and_is_kept_where_nothing_is_said_of_it() -> None:
    state = State()
    apply(state, dataclasses.replace(SETTINGS, enforcement="always"), 1, 0)
    assert take_lead(state, "a", SETTINGS) == [EpochClaimed(1, "a")]
    assert take_lead(state, "a", SETTINGS, "always") == [EpochClaimed(1, "a")]
    other = dataclasses.replace(SETTINGS, enforcement="never")
    assert take_lead(state, "a", SETTINGS, "never") == [EpochClaimed(1, "a"), other]
