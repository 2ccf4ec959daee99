"""One-shot: compile the programs, load them for the maps that are pinned, pin them, and exit.

    python -m tabard.agent.ebpf.load MAPS PROGRAMS SOURCES [COMPILED]

MAPS is the directory of the pinned maps, PROGRAMS the one to pin the programs in (both exist),
SOURCES the one of programs.c. COMPILED keeps what was compiled, for the next node with the same
sources. A process of its own, so that the compiler's memory (about 140 MiB) goes with it. Exit
code 0; 1 with the reason on stderr.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from tabard.agent.ebpf import layout, syscalls
from tabard.agent.ebpf.compile import compile_programs
from tabard.agent.ebpf.programs import load
from tabard.agent.ebpf.source import PROGRAMS, fingerprint
from tabard.dataplane.port import DataplaneError, MapSizes


def main(arguments: list[str]) -> int:
    if len(arguments) not in (3, 4):
        print(__doc__, file=sys.stderr)
        return 2
    maps, programs, sources, *kept = map(Path, arguments)
    try:
        numbered = {
            number: syscalls.get(str(maps / shape.name))
            for number, shape in enumerate(layout.shapes(MapSizes()))
        }
        compiled = compile_once(sources, kept[0]) if kept else compile_programs(sources)
        load(compiled, numbered, programs)
    except (DataplaneError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def compile_once(sources: Path, kept: Path) -> dict[str, bytes]:
    """As compile_programs; from `kept`/<fingerprint>/<program> if it was done before."""
    directory = kept / fingerprint(sources)
    if not directory.is_dir():
        compiled = compile_programs(sources)
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=kept))
        for name, instructions in compiled.items():
            (made / name).write_bytes(instructions)
        try:
            made.rename(directory)  # whole or not at all
        except OSError:  # another node's loader was faster, with the same
            shutil.rmtree(made)
    return {name: (directory / name).read_bytes() for name in PROGRAMS}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
