"""However a scene is come to, the allocator says the same of it (see sequences.py)."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given

from deciding import SETTINGS, Teller
from golden import files
from golden.files import Golden
from scenes import EXAMPLES, examples, histories
from sequences import EXPANSIONS, Scene, Telling, meaning, recorded, rest, settled
from tabard.events.ledger import SettingsAdopted

pytestmark = pytest.mark.timeout(120 + 3 * EXAMPLES)
expansions = pytest.mark.parametrize("name", EXPANSIONS)


def check(scenes: Sequence[Scene], name: str, adopted: SettingsAdopted, again: bool) -> None:
    """With `again` each event is told twice, as a bus does that lost an answer."""
    teller, telling = Teller(adopted), Telling()
    for step in EXPANSIONS[name](scenes):
        for change in step.changes:
            for event in telling.events(change):
                teller.tell(event, *([event] if again else []))
        rest(teller)
        assert meaning(teller.state) == meaning(settled(adopted, step.scene).state)
    assert teller.refolded() == teller.state


@expansions
@given(scenes=histories)
@examples
def test_a_made_up_history(name: str, scenes: list[Scene]) -> None:
    check(scenes, name, SETTINGS, again=False)


@given(scenes=histories)
@examples
def test_a_made_up_history_of_which_every_event_comes_twice(scenes: list[Scene]) -> None:
    check(scenes, "as it was", SETTINGS, again=True)


@expansions
@pytest.mark.parametrize("golden", files.every(), ids=lambda golden: golden.name)
def test_a_recorded_history(name: str, golden: Golden) -> None:
    scenes = recorded(golden.replay(), len(golden.ledger), 4)
    *_, (state, _) = golden.replay()
    adopted: Any = state.settings
    check(scenes, name, adopted, again=False)
