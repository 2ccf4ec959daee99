"""Taking the lead: what the ledger is told, and when this allocator must not."""

import dataclasses

from tabard.events.ledger import Enforcement, EpochClaimed, LedgerEvent, SettingsAdopted
from tabard.ledger.state import State


def name_of(holder: str) -> str:
    """The allocator that a holder's process is one of: `allocator-1` of `allocator-1/4711-…`."""
    return holder.partition("/")[0]


class SettingsMismatch(Exception):
    """The ledger was begun with other settings than those configured; names each."""


def take_lead(
    state: State,
    holder: str,
    configured: SettingsAdopted,
    enforcement: Enforcement | None = None,
) -> list[LedgerEvent]:
    """The first events of a new leader: the next epoch, and the settings if the ledger has none or
    `enforcement` (None: as it is) is another there.

    SettingsMismatch if others differ: they are set at install, since every number and every label
    set in the ledger was made by them.
    """
    claimed = EpochClaimed(state.epoch + 1, holder)
    if state.settings is None:
        return [claimed, configured]
    wanted = dataclasses.replace(configured, enforcement=enforcement or state.settings.enforcement)
    differing = [
        f"{field.name} is {getattr(configured, field.name)!r}, but the ledger was begun with "
        f"{getattr(state.settings, field.name)!r}"
        for field in dataclasses.fields(SettingsAdopted)
        if field.name != "enforcement"
        and getattr(configured, field.name) != getattr(state.settings, field.name)
    ]
    if differing:
        raise SettingsMismatch(
            f"{'; '.join(differing)}. These are set at install: configure them as the ledger has "
            "them, or begin a new ledger"
        )
    return [claimed] if wanted == state.settings else [claimed, wanted]
