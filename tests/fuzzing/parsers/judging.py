"""Asking a state what is asked of every state: its maps, and who may speak to whom."""

import contextlib

from tabard.dataplane.maps import Mode
from tabard.ledger.state import State
from tabard.policy.compile import Attachment, Compiler
from tabard.policy.engine import Engine
from tabard.policy.parties import PartyError


def judged(state: State) -> None:
    attached = {uid: Attachment(uid, 7, bytes(6), bytes(6)) for uid in list(state.endpoints)[:4]}
    for mode in Mode:
        Compiler().compile(state, "n1", mode, attached)
    engine, places = Engine(state), list(state.bindings)[:6]
    for one in places:
        for other in (*places[:3], "203.0.113.9"):
            with contextlib.suppress(PartyError):  # of two address families
                engine.allowed(one, other)
