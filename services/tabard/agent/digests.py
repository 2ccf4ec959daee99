"""The digest of the folded state, for STATUS: taken when the ledger is quiet, a few rows at a time.

It costs as much as reading the whole state. While the ledger is on the move the last digest stands;
how old it is, its sequence tells.
"""

import asyncio
from itertools import islice

from tabard.agent.follower import Follower
from tabard.agent.reconciler import Reconciler
from tabard.agent.report import Report
from tabard.ledger.digest import Sum, rows

SLICE_ROWS = 200
"""Rows taken in at a time, some 0.2 ms of work; in between everyone else has a turn."""
SHARE_MAX = 0.05
"""Of an agent's time that digests may take: with a million pods each takes seconds."""


async def keep_digest(
    reconciler: Reconciler, follower: Follower, report: Report, quiet_s: float
) -> None:
    """For ever, once started: digest each state that did not go on for `quiet_s`."""
    await reconciler.started.wait()
    loop = asyncio.get_running_loop()
    took_s = 0.0
    while True:
        sequence = reconciler.state.sequence
        if sequence == report.digest_at:
            await follower.folded()
            continue
        await asyncio.sleep(max(quiet_s, took_s / SHARE_MAX))
        if reconciler.state.sequence == sequence:
            begun = loop.time()
            found = await _digested(reconciler, sequence)
            took_s = loop.time() - begun
            if found is not None:
                report.digested(sequence, found)


async def _digested(reconciler: Reconciler, sequence: int) -> bytes | None:
    """The digest of the state at `sequence`; None if it went on meanwhile."""
    total, left = Sum(), rows(reconciler.state)
    while part := list(islice(left, SLICE_ROWS)):
        total.add(part)
        await asyncio.sleep(0)
        if reconciler.state.sequence != sequence:
            return None
    return total.digest()
