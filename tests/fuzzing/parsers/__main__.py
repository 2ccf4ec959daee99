"""The parsers' fuzzer, for as long as it is let:

    make fuzz TARGET=events SECONDS=600 SEED=7
    make fuzz TARGET=parsers                        # all of them in turn
    make fuzz TARGET=frames                         # the kernel's programs; root

What fails is made small, written into `findings`, and replayed by the tests from then on; the
corpus grows by what reached something new. The exit code says whether anything failed.
"""

import argparse
import logging
import resource
import secrets
import sys
import time
import traceback
from random import Random

import structlog

from fuzzing.parsers.frames import frames
from fuzzing.parsers.hunt import SMALLER_S, Hunt, corpus, grow, keep, smaller
from fuzzing.parsers.target import Target
from fuzzing.parsers.targets import TARGETS

SAID_MAX = 3_000
"""Most characters of a traceback."""
MEMORY_BYTES_MAX = 2 << 30
"""Of the address space: who asks for more fails, with a MemoryError, before the machine does."""


def hunted(target: Target, seconds: float, seed: int) -> bool:
    """Whether nothing failed. `seconds` are of this process's CPU time."""
    hunt = Hunt(target, Random(seed), corpus(target))
    until = time.process_time() + seconds
    while time.process_time() < until:
        hunt.once()
    for found in hunt.failures.values():
        least = smaller(target, found, time.process_time() + SMALLER_S)
        said = "".join(traceback.format_exception(least.error, limit=-4))
        print(said[-SAID_MAX:])
        print(f"{target.name}: {least.place}, kept as {keep(target, least)}\n", flush=True)
    kept = grow(target, hunt.grown)
    failed = len(hunt.failures)
    print(f"{target.name}: {hunt.inputs} inputs, {hunt.arcs} arcs, {kept} kept, {failed} failed")
    return not failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz TARGET=…", description="the parsers' fuzzer")
    parser.add_argument("target", choices=["parsers", "frames", *TARGETS])
    parser.add_argument("--seconds", type=float, default=60, help="CPU time of each target")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 32))
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    print(f"seed {asked.seed}", flush=True)
    if asked.target == "frames":
        with frames() as target:
            return 0 if hunted(target, asked.seconds, asked.seed) else 1
    chosen = TARGETS.values() if asked.target == "parsers" else [TARGETS[asked.target]]
    return 0 if all([hunted(target, asked.seconds, asked.seed) for target in chosen]) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
