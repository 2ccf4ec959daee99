"""Maps as plain JSON values, as an agent's gate hands them out. Pure.

    {"policies": [[policy, direction, identity, protocol, port, port bits, tier, strength]],
     "identities": [256], "nodes": [address],
     "prefixes": [[network, bits, identity, flags, tunnel]],
     "hosts": [[address, identity]],
     "endpoints": [[address, incarnation, identity, policy, flags, ifindex, mac, host mac,
                    stale after s]]}

Addresses and MACs are in hexadecimal; order means nothing.
"""

from collections.abc import Mapping
from typing import Any

from tabard.dataplane.maps import (
    MAP_NAMES,
    Address,
    Direction,
    Endpoint,
    EndpointFlag,
    Maps,
    PolicyKey,
    PrefixEntry,
    PrefixFlag,
    Protocol,
    Strength,
    Tier,
)


def entries(maps: Maps) -> int:
    """How many there are in all."""
    return sum(len(getattr(maps, name)) for name in MAP_NAMES)


def plain(maps: Maps) -> dict[str, list[Any]]:
    return {
        "identities": list(maps.identities),
        "policies": [
            (
                key.policy,
                key.direction.value,
                key.identity,
                key.protocol.value,
                key.port,
                key.port_bits,
                key.tier.value,
                strength,
            )
            for key, strength in maps.policies.items()
        ],
        "nodes": [address.hex() for address in maps.nodes],
        "prefixes": [
            (network.hex(), bits, entry.identity, entry.flags.value, entry.tunnel.hex())
            for (network, bits), entry in maps.prefixes.items()
        ],
        "hosts": [(address.hex(), identity) for address, identity in maps.hosts.items()],
        "endpoints": [
            (
                address.hex(),
                entry.incarnation,
                entry.identity,
                entry.policy,
                entry.flags.value,
                entry.ifindex,
                entry.mac.hex(),
                entry.host_mac.hex(),
                entry.stale_after_s,
            )
            for address, entry in maps.endpoints.items()
        ],
    }


def maps_of(value: Mapping[str, Any]) -> Maps:
    """What `plain` was given; ValueError, TypeError or KeyError if it is anything else."""
    return Maps(
        identities=frozenset(value["identities"]),
        policies={
            PolicyKey(
                policy, Direction(way), identity, Protocol(protocol), port, bits, Tier(tier)
            ): Strength(strength)
            for policy, way, identity, protocol, port, bits, tier, strength in value["policies"]
        },
        nodes=frozenset(map(_address, value["nodes"])),
        prefixes={
            (_address(network), bits): PrefixEntry(
                identity, PrefixFlag(flags), bytes.fromhex(tunnel)
            )
            for network, bits, identity, flags, tunnel in value["prefixes"]
        },
        hosts={_address(text): identity for text, identity in value["hosts"]},
        endpoints={
            _address(text): Endpoint(
                incarnation,
                identity,
                policy,
                EndpointFlag(flags),
                ifindex,
                bytes.fromhex(mac),
                bytes.fromhex(host_mac),
                after_s,
            )
            for (
                text,
                incarnation,
                identity,
                policy,
                flags,
                ifindex,
                mac,
                host_mac,
                after_s,
            ) in value["endpoints"]
        },
    )


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text))
