"""Which benchmarks there are.

Each module has `run(lab)`, says in its first line what it is, and may have NEEDS_KERNEL and
`why_not()`.
"""

from collections.abc import Mapping
from types import ModuleType

from bench import (
    allocate,
    backlog,
    cold,
    compiling,
    crowd,
    known,
    linting,
    replicated,
    resident,
    start,
    trace,
    verdict,
    writes,
)

BENCHMARKS: Mapping[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        known,
        allocate,
        backlog,
        replicated,
        start,
        crowd,
        cold,
        verdict,
        writes,
        compiling,
        linting,
        resident,
        trace,
    )
}
"""By name, in the order in which they run and are shown."""


def summary(name: str) -> str:
    return (BENCHMARKS[name].__doc__ or "").partition("\n")[0]


def needs_kernel(name: str) -> bool:
    """Whether it says nothing without eBPF."""
    return bool(getattr(BENCHMARKS[name], "NEEDS_KERNEL", False))


def why_not(name: str) -> str:
    """What else it lacks here, or nothing."""
    found: str = getattr(BENCHMARKS[name], "why_not", lambda: "")()
    return found
