"""The profile: one JSON file for each running cluster, by which commands on this machine find it.

`<run directory>/<name>.json` holds name, pid and started (of the supervisor), nats (URLs), netns
(of the bus, empty if none), data and keep_data, nodes, mode, dataplane, pods, http (service → URL),
nkey and ca (files), monitoring (URLs).
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import get_origin

from tabard.cluster.errors import ClusterError, NoCluster
from tabard.cluster.pids import alive
from tabard.process.places import ROOTS as ROOTS
from tabard.process.places import own
from tabard.process.places import run_directory as run_directory


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    pid: int
    started: int
    """The supervisor's start in clock ticks since boot: its pid alone may be another's by now."""
    nats: tuple[str, ...]
    netns: str
    data: str
    keep_data: bool
    nodes: tuple[str, ...]
    mode: str
    dataplane: str
    pods: str
    http: Mapping[str, str] = field(default_factory=dict)
    """Service → the URL under which its /metrics, /healthz and /readyz are."""
    nkey: str = ""
    """File of the seed with which commands come to a bus that asks who they are; else empty."""
    ca: str = ""
    """File of the certificates by which they know its servers; empty if it speaks no TLS."""
    monitoring: tuple[str, ...] = ()
    """Where the bus's servers are monitored: its own in `netns`, in the order of `nats`; those of
    another bus as far as they were given."""

    @property
    def alive(self) -> bool:
        return alive(self.pid, self.started)

    def socket(self, node: str) -> Path:
        """The gate of `node`'s agent."""
        return Path(self.data) / "nodes" / node / "agent.sock"


def _checked(directory: Path) -> Path:
    """`directory`, made if absent. A profile says where sockets are: nobody else may write one."""
    try:
        return own(directory)
    except PermissionError as error:
        raise ClusterError(str(error), f"ls -ld {directory}") from error


def _path(name: str, directory: Path) -> Path:
    return directory / f"{name}.json"


def claim(profile: Profile, directory: Path) -> None:
    """Write the profile if no other of its name is there; FileExistsError if one is."""
    draft = _draft(profile, _checked(directory))
    try:
        os.link(draft, _path(profile.name, directory))
    finally:
        draft.unlink()


def write(profile: Profile, directory: Path) -> None:
    """Replace the profile."""
    _draft(profile, _checked(directory)).replace(_path(profile.name, directory))


def _draft(profile: Profile, directory: Path) -> Path:
    draft = directory / f".{profile.name}.{os.getpid()}"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(profile), indent=1) + "\n")
    return draft


def remove(name: str, directory: Path) -> None:
    _path(name, directory).unlink(missing_ok=True)


def read(name: str, directory: Path) -> Profile | None:
    """The profile of `name`, alive or not."""
    path = _path(name, directory)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        known = {each.name: each.type for each in fields(Profile)}
        values = {key: value for key, value in json.loads(text).items() if key in known}
        for key, value in values.items():
            if not _is_of(value, known[key]):
                raise TypeError(f"{key} is {str(value)[:80]!r}")
        values |= {key: tuple(values[key]) for key in ("nats", "nodes")}
        values["monitoring"] = tuple(values.get("monitoring", ()))
        return Profile(**values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ClusterError(
            f"{path} is no profile of this release ({error})", f"tabard down --cluster {name}"
        ) from error


def _is_of(value: object, kind: object) -> bool:
    """Whether JSON's `value` can stand in a field of that type."""
    match get_origin(kind):
        case None:
            return type(value) is kind
        case origin if origin is tuple:
            return isinstance(value, list) and all(isinstance(each, str) for each in value)
        case _:
            return isinstance(value, dict) and all(isinstance(e, str) for e in value.values())


def names(directory: Path) -> list[str]:
    """Of all profiles, those of dead runs included."""
    if not directory.is_dir():
        return []
    return sorted(path.stem for path in directory.glob("*.json") if not path.name.startswith("."))


def find(name: str, directory: Path) -> Profile:
    """The running cluster `name`, or the only one if `name` is empty; else NoCluster."""
    if name:
        profile = read(name, directory)
        if profile is None:
            others = ", ".join(running.name for running in running_clusters(directory)) or "none"
            if roots_may_run():
                raise NoCluster(f"cluster {name!r} is none of this user's ({_BY_ROOT})", _AS_ROOT)
            raise NoCluster(
                f"cluster {name!r} does not run on this machine (running: {others})",
                f"tabard up --name {name}",
            )
        if not profile.alive:
            raise NoCluster(
                f"cluster {name!r} died without cleaning up (its process {profile.pid} is gone)",
                f"tabard down --cluster {name}",
            )
        return profile
    running = running_clusters(directory)
    if not running and (dead := names(directory)):
        raise NoCluster(
            f"no cluster runs on this machine; died without cleaning up: {', '.join(dead)}",
            f"tabard down --cluster {dead[0]}",
        )
    if not running and roots_may_run():
        raise NoCluster(f"no cluster of this user runs on this machine ({_BY_ROOT})", _AS_ROOT)
    if not running:
        raise NoCluster("no cluster runs on this machine", "tabard up")
    if len(running) > 1:
        listed = ", ".join(profile.name for profile in running)
        raise NoCluster(
            f"{len(running)} clusters run on this machine: {listed}",
            f"the same command with --cluster {running[0].name}",
        )
    return running[0]


def roots_may_run() -> bool:
    """Whether a cluster of root's may run, which another user cannot see."""
    if os.geteuid() == 0 or not ROOTS.is_dir():
        return False
    return not os.access(ROOTS, os.R_OK) or bool(names(ROOTS))


_BY_ROOT = "root may run one: only root can look"
_AS_ROOT = "the same command as root: sudo tabard …"


def running_clusters(directory: Path) -> list[Profile]:
    """Those that are alive. A profile that cannot be read hides no other; `find` by name tells."""
    found = []
    for name in names(directory):
        with suppress(ClusterError):
            profile = read(name, directory)
            if profile is not None and profile.alive:
                found.append(profile)
    return found
