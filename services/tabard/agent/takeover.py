"""Taking over what an earlier agent of the node left in the dataplane."""

from collections.abc import Mapping
from dataclasses import replace

import structlog

from tabard.agent.attachments import Held, recovered
from tabard.agent.reconciler import Reconciler
from tabard.dataplane.port import LinkGone

log = structlog.get_logger(__name__)


async def take_over(reconciler: Reconciler, saved: Mapping[str, Held]) -> None:
    """Learn from the dataplane, which is open, what it holds and which interfaces it guards.

    `saved` are the checkpoint's attachments. One whose guard is gone while its interface is there
    (as after its pin was deleted) is guarded again. Raises DataplaneError.
    """
    dataplane, call = reconciler.dataplane, reconciler.worker.call
    actual = await call(dataplane.read)
    attached = await call(dataplane.attached)
    found = recovered(attached, actual.endpoints, saved, reconciler.state)
    for uid, held in saved.items():
        if uid in attached or not held.interface:
            continue
        try:
            ifindex, host_mac = await call(dataplane.attach, uid, held.interface)
        except LinkGone:
            continue
        log.warning("agent.guarded_again", uid=uid, interface=held.interface)
        attachment = replace(held.attachment, ifindex=ifindex, host_mac=host_mac)
        found[uid] = replace(held, attachment=attachment)
    for held in found.values():
        reconciler.attachments.put(held)
    reconciler.actual = reconciler.expected = actual
    log.info(
        "agent.took_over",
        guarded=len(attached),
        attached=len(found),
        endpoints=len(actual.endpoints),
        policies=len(actual.policies),
    )
