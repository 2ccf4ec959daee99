"""The names of a run's network namespaces and interfaces.

Agents, sources, supervisor and clean-up find each other's kernel objects by these names alone, so
that a restarted process recognises its own unaided. A *run* is one cluster on one machine.
"""

import re
from hashlib import blake2b

RUN = re.compile(r"[a-z0-9]([a-z0-9-]{0,14}[a-z0-9])?")
"""A run's name, 16 characters at most."""
NODE = re.compile(r"(?!hub$)(?!p-)[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
"""A node's name; `hub` and `p-…` would be taken for the hub's or a pod's namespace."""
INTERFACE_BYTES_MAX = 15
"""IFNAMSIZ - 1 (linux/if.h)."""

_ID_DIGITS = 12
_ID = re.compile(rf"[0-9a-f]{{{_ID_DIGITS}}}")


def node_namespace(run: str, node: str) -> str:
    """`tb-<run>-<node>`; ValueError if either name cannot stand in it."""
    if not NODE.fullmatch(node):
        raise ValueError(
            f"node name {node!r} names no namespace; use at most 63 of a-z, 0-9, '-' and '.', "
            "not 'hub' and not starting with 'p-'"
        )
    return _prefix(run) + node


def hub_namespace(run: str) -> str:
    """`tb-<run>-hub`: the bus and the underlay that joins the nodes."""
    return _prefix(run) + "hub"


def service_namespace(run: str, process: str) -> str:
    """`tb-<run>-s_<process>`: of one bus server or allocator alone; no node's name has an `_`."""
    return f"{_prefix(run)}s_{process}"


def pod_namespace(run: str, uid: str) -> str:
    """`tb-<run>-p-<pod id>`"""
    return f"{_prefix(run)}p-{pod_id(uid)}"


def pod_id_of(run: str, namespace: str) -> str | None:
    """The pod id in the name of a pod's namespace of this run; None for any other name."""
    prefix = f"{_prefix(run)}p-"
    rest = namespace.removeprefix(prefix)
    return rest if rest != namespace and _ID.fullmatch(rest) else None


def pod_id(uid: str) -> str:
    """The first 12 hexadecimal digits of a pod's UID (a hash's, if the UID has not so many)."""
    digits = uid.replace("-", "").lower()[:_ID_DIGITS]
    if _ID.fullmatch(digits):
        return digits
    return blake2b(uid.encode(), digest_size=_ID_DIGITS // 2).hexdigest()


def host_interface(uid: str) -> str:
    """The end of a pod's veth pair that is in its node's namespace: `tb<pod id>`."""
    return f"tb{pod_id(uid)}"


def pod_mac(uid: str) -> str:
    """The address of the pod's own end: locally administered, the same on every start."""
    return _mac("02", uid)


def host_mac(uid: str) -> str:
    """The address of the node's end, which is the pod's gateway."""
    return _mac("06", uid)


def _mac(first: str, uid: str) -> str:
    digits = pod_id(uid)[:10]
    return ":".join((first, *(digits[at : at + 2] for at in range(0, 10, 2))))


def _prefix(run: str) -> str:
    if not RUN.fullmatch(run):
        raise ValueError(
            f"run name {run!r}: use 1 to 16 of a-z, 0-9 and '-', none of them at an end"
        )
    return f"tb-{run}-"
