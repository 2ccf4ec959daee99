"""The probers' process: `python -m tabard.chaos.probers FILE SEED`, ended by the end of its input.

It writes its stamps to FILE.
"""

import os
import select
import sys
from pathlib import Path
from random import Random

from tabard.chaos.probers.prober import TICK_S, Prober
from tabard.chaos.probers.stamps import BUFFER_BYTES, Stamps
from tabard.chaos.probers.telling import told


def main(file: str, seed: str) -> None:
    standard_input = sys.stdin.fileno()
    os.set_blocking(standard_input, False)
    with Path(file).open("wb", buffering=BUFFER_BYTES) as stamped:
        prober = Prober(Random(seed), Stamps(stamped).add)
        prober.poller.register(standard_input, select.EPOLLIN)
        rest = b""
        try:
            while True:
                ready = [descriptor for descriptor, _ in prober.poller.poll(TICK_S)]
                if standard_input in ready:
                    data = os.read(standard_input, BUFFER_BYTES)
                    if not data:
                        return
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        prober.told(told(line))
                prober.step(ready)
        finally:
            prober.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
