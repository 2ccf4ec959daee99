"""What a seed sets up: how many of what, how small, and how fast."""

from dataclasses import dataclass
from random import Random

from tabard.allocator.commands import Limits
from tabard.allocator.pace import Pace
from tabard.dataplane.maps import Address, Mode, address
from tabard.dataplane.port import MapSizes
from tabard.events.ledger import SettingsAdopted

NODES = ("n1", "n2", "n3")
RETIRE_GRACE_MS = 1_500
NODE_LOST_MS = 8_000
RELABEL_TIMEOUT_MS = 3_000


@dataclass(frozen=True, slots=True)
class Setup:
    seed: int
    mode: Mode
    allocators: tuple[str, ...]
    numbers: int
    """Cluster identities that there are."""
    settings: SettingsAdopted
    pace: Pace
    sizes: MapSizes

    @staticmethod
    def address(text: str) -> Address:
        return address(text)


def setup(seed: int) -> Setup:
    chance = Random(f"setup {seed}")
    is_tight = chance.random() < 0.3
    """Its maps are so small that they are full at times."""
    return Setup(
        seed=seed,
        mode=chance.choice((Mode.OVERLAY, Mode.NATIVE)),
        allocators=("a1", "a2", "a3")[: 3 if chance.random() < 0.25 else 2],
        numbers=chance.choice((5, 8, 8, 12)),
        settings=SettingsAdopted(
            cluster="simulated",
            cluster_id=0,
            cluster_bits=8,
            include=(),
            exclude=(),
            fixed=(),
            retire_grace_ms=RETIRE_GRACE_MS,
            enforcement="always" if chance.random() < 0.15 else "default",
        ),
        pace=Pace(
            checkpoint_s=3.0,
            limits=Limits(NODE_LOST_MS, RELABEL_TIMEOUT_MS),
            snapshot_events=60,
            snapshot_s=20.0,
        ),
        sizes=MapSizes(
            policies=chance.randint(24, 60) if is_tight else 4_096,
            hosts=chance.randint(6, 12) if is_tight else 1_024,
            endpoints=256,
            conntrack=64,
            fragments=8,
        ),
    )
