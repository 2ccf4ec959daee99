"""The probers of one run: started, told of pods as they come and go, and asked for their stamps."""

from random import Random

from tabard.chaos.fault import Rig
from tabard.chaos.record import Packet


class Probers:
    """They run until `stop`; whatever becomes of this process, theirs ends with it."""

    async def stop(self) -> list[Packet]:
        """End them; every stamped packet, in the order in which they ended."""
        raise NotImplementedError


async def start(rig: Rig, chance: Random) -> Probers:
    """Start probing the cluster's pods, those that come later too. Returns at once."""
    raise NotImplementedError
