"""`python -m bench.child NAME RUN DIRECTORY SCALE REAL`: one benchmark in a process of its own.

Its figures go to DIRECTORY/figures.json. It cleans up and ends at SIGINT, and when its parent dies:
then the directory is its own to remove.
"""

import ctypes
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path

import structlog

from bench.catalogue import BENCHMARKS
from bench.lab import Lab

FIGURES = "figures.json"
INTERRUPTED = 130

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> int:
    name, run, directory, scale, real = arguments
    parent = os.getppid()
    # A shell's background job has it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    lab = Lab(run, Path(directory), float(scale), real == "1")
    try:
        figures = [figure.record() for figure in BENCHMARKS[name].run(lab)]
        (lab.directory / FIGURES).write_text(json.dumps(figures))
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if os.getppid() != parent:
            shutil.rmtree(lab.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
