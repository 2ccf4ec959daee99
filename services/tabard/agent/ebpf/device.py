"""The VXLAN device of a node's overlay: one for all peers, its packets addressed by the programs.

Calls work in the calling thread's network namespace.
"""

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from tabard.dataplane.port import DataplaneError

_KIND = "vxlan"


def ensure(name: str, port: int) -> int:
    """The device's ifindex; made if absent, still down (see `raise_up`).

    `external`: identity and remote node come with each packet. A VXLAN device of that name with
    another port is from other settings and is made anew; anything else is not Tabard's to touch.
    """
    try:
        with IPRoute() as route:
            for link in route.get_links(ifname=name) if route.link_lookup(ifname=name) else ():
                info = link.get_attr("IFLA_LINKINFO")
                if info is None or info.get_attr("IFLA_INFO_KIND") != _KIND:
                    raise DataplaneError(
                        f"interface {name!r} exists and is no VXLAN device; "
                        "rename it, or set another overlay_device"
                    )
                data = info.get_attr("IFLA_INFO_DATA")
                if data.get_attr("IFLA_VXLAN_PORT") == port and data.get_attr(
                    "IFLA_VXLAN_COLLECT_METADATA"
                ):
                    return int(link["index"])
                route.link("del", index=link["index"])
            route.link(
                "add",
                ifname=name,
                kind=_KIND,
                vxlan_collect_metadata=True,
                vxlan_port=port,
                vxlan_learning=False,
            )
            return int(route.link_lookup(ifname=name)[0])
    except NetlinkError as error:
        raise DataplaneError(
            f"VXLAN device {name!r} (UDP port {port}) cannot be made: {error}"
        ) from error


def raise_up(ifindex: int) -> None:
    """To be called when its program is attached: before, packets would reach the host's stack."""
    try:
        with IPRoute() as route:
            route.link("set", index=ifindex, state="up")
    except NetlinkError as error:
        raise DataplaneError(f"VXLAN device {ifindex} cannot be set up: {error}") from error


def remove(name: str) -> None:
    """Absent is no error, and another kind of device of that name is left alone."""
    try:
        with IPRoute() as route:
            for link in route.get_links(ifname=name) if route.link_lookup(ifname=name) else ():
                info = link.get_attr("IFLA_LINKINFO")
                if info is not None and info.get_attr("IFLA_INFO_KIND") == _KIND:
                    route.link("del", index=link["index"])
    except NetlinkError as error:
        raise DataplaneError(f"VXLAN device {name!r} cannot be removed: {error}") from error
