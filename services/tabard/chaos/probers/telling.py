"""What the probers' process is told on its standard input, a JSON line for each. Pure."""

import json
from dataclasses import asdict, dataclass

from tabard.events.observed import Ports


@dataclass(frozen=True, slots=True)
class Come:
    """A pod that there is, or is about to be, in the network namespace of this name."""

    uid: str
    namespace: str
    addresses: tuple[str, ...]
    ports: Ports
    """Those that have a name: events tell no others."""


@dataclass(frozen=True, slots=True)
class Gone:
    uid: str


def line(told: Come | Gone) -> bytes:
    return json.dumps({type(told).__name__: asdict(told)}).encode() + b"\n"


def told(line: bytes) -> Come | Gone:
    """What `line` was made of; KeyError, TypeError or ValueError for any other."""
    [(kind, fields)] = json.loads(line).items()
    match kind:
        case "Come":
            ports = tuple((name, number, protocol) for name, number, protocol in fields["ports"])
            return Come(fields["uid"], fields["namespace"], tuple(fields["addresses"]), ports)
        case "Gone":
            return Gone(fields["uid"])
        case _:
            raise ValueError(f"nothing is called {kind!r}")
