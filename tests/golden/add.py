"""Add a golden ledger: a story of this folder, or what a cluster's bus holds (see README.md)."""

import argparse

from golden import files, story
from tabard.bus.port import Bus, Stream
from tabard.cli.reach import Target, with_bus

STORIES = {
    "every_event": story.every_event,
    "domain_names": story.domain_names,
    "a_trim": story.a_trim,
    "every_language": story.every_language,
    "closed_loops": story.closed_loops,
    "told_by_chance": lambda: story.told_by_chance(20261127),
}


async def _held(bus: Bus, target: Target) -> tuple[list[bytes], list[bytes]]:
    return await _payloads(bus, Stream.OBSERVED), await _payloads(bus, Stream.LEDGER)


async def _payloads(bus: Bus, stream: Stream) -> list[bytes]:
    found: list[bytes] = []
    while messages := await bus.read(stream, len(found) + 1):
        found += [message.payload for message in messages]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m golden.add", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--story", choices=STORIES)
    parser.add_argument("--cluster", default="")
    parser.add_argument("--about", default="")
    asked = parser.parse_args()
    if asked.story:
        told = STORIES[asked.story]()
        observed, ledger = told.told, [message.payload for message in told.messages]
        about = (getattr(story, asked.story).__doc__ or "").strip()
    else:
        observed, ledger = with_bus("read the streams", asked.cluster, "", _held)
        about = asked.about
    golden = files.add(asked.name, about, observed, ledger)
    size = sum(path.stat().st_size for path in golden.folder.iterdir())
    print(f"{golden.folder}: {len(observed)} observed, {len(ledger)} on the ledger, {size} bytes")


if __name__ == "__main__":
    main()
