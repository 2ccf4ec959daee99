"""Faults of pods' incarnations and of the addresses that they hold."""

from tabard.allocator import pods
from tabard.invariants.verdict import Invariant
from tabard.ledger import fold
from tabard.simulator.faults.planting import Edit, Fault

FAULTS = (
    Fault(
        "late-unbind",
        "The end of an older pod takes its address from the newer one that has it by then",
        Invariant.SAFE_REUSE,
        (
            Edit(
                fold._bind,
                "holder.addresses = tuple(held for held in holder.addresses if held != address)",
                "pass",
            ),
            Edit(fold._unbind, "if state.bindings.get(address) == uid:", "if True:"),
            Edit(
                fold._unbind,
                "del state.bindings[address]",
                "state.bindings.pop(address, None)",
            ),
        ),
    ),
    Fault(
        "older-replaces-newer",
        "An address goes to whoever is told of last, however long ago that pod started",
        Invariant.SAFE_REUSE,
        (
            Edit(
                pods._won,
                "if held_since is None or held_since <= pod.started_at:",
                "if True:",
            ),
        ),
    ),
    Fault(
        "dead-pod-revived",
        "A start that comes after the stop of the same pod brings it back",
        Invariant.EXACTLY_ONCE,
        (
            Edit(
                pods.start,
                "if pod.uid in state.tombstones and pod.uid not in state.waiting:",
                "if False:",
            ),
        ),
    ),
)
