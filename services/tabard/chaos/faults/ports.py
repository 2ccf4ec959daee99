"""A namespace's port on the hub's bridge, and what nft drops there. Blocks; needs root.

What is dropped at the far end of its cable, nobody in a namespace can see: it sends and hears
nothing, as on a real network. A rule in the namespace itself was rejected, since it tells the
sender (EPERM), who then tries again at once instead of ever later; and there the agents' programs
may take a packet before nft sees it.
"""

import json
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

from tabard.chaos.fault import Rig
from tabard.cluster.errors import ClusterError
from tabard.cluster.network import UNDERLAY_DEVICE
from tabard.netns import enter
from tabard.netns.names import hub_namespace


class Way(Enum):
    """Of packets at a port, as its namespace sees it; the value is nft's hook at the port."""

    OUT = "ingress"
    IN = "egress"


BOTH = (Way.OUT, Way.IN)


@dataclass(frozen=True, slots=True)
class Port:
    """`name` is the interface in the namespace `hub`."""

    hub: str
    name: str


def port_of(rig: Rig, process: str) -> Port:
    """Where the namespace of a process hangs on the hub's bridge."""
    hub = hub_namespace(rig.run)
    said = run("ip", "-n", rig.namespace(process), "-json", "link", "show", UNDERLAY_DEVICE)
    index = json.loads(said)[0]["link_index"]
    return Port(hub, enter.call(hub, lambda: socket.if_indextoname(index)))


def table_name(rig: Rig, what: str, port: Port, chance: Random) -> str:
    """A table's name, of this run and no other fault's."""
    return re.sub(r"\W", "_", f"chaos_{rig.run}_{what}_{port.name}_{chance.getrandbits(32):08x}")


def drop(port: Port, table: str, rules: Mapping[Way, str]) -> None:
    """Drop what matches nft's expression of each way ("" matches all), ARP too. Repeatable."""
    lines = _cleared(table)
    for way, expression in rules.items():
        hook = f'hook {way.value} device "{port.name}" priority 0'
        lines.append(f"add chain netdev {table} {way.name} {{ type filter {hook}; }}")
        lines.append(f"add rule netdev {table} {way.name} {expression} drop")
    _nft(port.hub, lines)


def pass_all(port: Port, table: str) -> None:
    """Remove what `drop` made, if it is there."""
    _nft(port.hub, [*_cleared(table), f"delete table netdev {table}"])


def _cleared(table: str) -> list[str]:
    """An empty table, whatever was there: deleting what is not there would be an error."""
    return [
        f"add table netdev {table}",
        f"delete table netdev {table}",
        f"add table netdev {table}",
    ]


def _nft(namespace: str, lines: Sequence[str]) -> None:
    """All of it or nothing."""
    text = "".join(f"{line}\n" for line in lines)
    enter.call(namespace, lambda: run("nft", "-f", "-", text=text))


def ip_batch(namespace: str, *commands: str) -> None:
    """Commands of ip(8) in a namespace, as far as the first that fails: ClusterError."""
    text = "".join(f"{command}\n" for command in commands)
    run("ip", "-n", namespace, "-batch", "-", text=text)


def run(*command: str, text: str = "") -> str:
    """What the command printed; ClusterError with its complaint."""
    try:
        # In a session of its own: Ctrl-C is for us, and a heal must not end in the middle.
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise ClusterError(f"no `{command[0]}` in PATH; faults need it", "tabard doctor") from None
    if done.returncode != 0:
        raise ClusterError(f"`{' '.join(command)}` failed: {done.stderr.strip()}\n{text}".strip())
    return done.stdout
