"""The Dataplane port over the kernel's pinned maps and links."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import structlog

from tabard.agent.ebpf import (
    device,
    grace,
    layout,
    links,
    migration,
    programs,
    source,
    syscalls,
    tap,
)
from tabard.agent.ebpf.events import EventReader
from tabard.agent.ebpf.layout import PRESENT, SETTINGS_KEY, Settings
from tabard.agent.ebpf.maps import KernelMap
from tabard.agent.ebpf.pins import BPF_ROOT, Pins, mount_bpffs
from tabard.dataplane.maps import (
    Address,
    Direction,
    Endpoint,
    Maps,
    Mode,
    Reason,
    address_text,
    is_of_node,
    specificity,
)
from tabard.dataplane.port import (
    Change,
    DataplaneError,
    LinkGone,
    MapSizes,
    NodeConfig,
    Verdict,
)
from tabard.dataplane.turn import turn_of
from tabard.identity.numbers import Reserved
from tabard.netns import enter
from tabard.process.privileges import KERNEL, lacking

T = TypeVar("T")

log = structlog.get_logger(__name__)

LOAD_S_MAX = 60
"""Longest that compiling and loading may take."""


class EbpfDataplane:
    """One node's maps, programs and links in the kernel; see the port for what the calls promise.

    Interfaces are found in the network namespace of the calling thread, or in that called `netns`
    if one is given. After a change of the maps' schema, `read` gives the new maps, and the
    links move to them in `open`, or (if the old entries could not be copied) at the end of the
    first `write` of a change that is no part of one: it brings a full set, and may be empty.

    `sources` replaces the installed bpf/. `compiled` is a directory, writable to root only, that
    keeps compiled programs, so that a machine's second node need not compile them again.
    """

    kind = "ebpf"

    def __init__(
        self,
        config: NodeConfig,
        *,
        cluster: str,
        sizes: MapSizes | None = None,
        pin_root: Path = BPF_ROOT,
        netns: str = "",
        sources: Path | None = None,
        compiled: Path | None = None,
        expedites: bool = True,
    ) -> None:
        self._config = config
        self.sizes = sizes or MapSizes()
        self._sources = sources
        self._compiled = compiled
        self._netns = netns
        self._expedites = expedites
        self._pins = Pins(pin_root, cluster, config.name)
        self._schema = layout.schema(self.sizes)
        self._maps: dict[str, KernelMap] = {}
        self._programs: dict[str, int] = {}
        self._staged = False
        """Links are still with the programs of another schema."""
        self._lingers = True
        """Packets may still read endpoints' other sides, or what was removed since the last wait:
        memory that the next write will use. Whatever an earlier agent wrote last counts too."""

    @property
    def guards_node(self) -> bool:
        return bool(self._config.underlay_device)

    @property
    def programs(self) -> Mapping[str, int]:
        """Descriptors of the programs, by name, while open."""
        return self._programs

    # ---- opening and closing

    def open(self) -> None:
        if self._maps:
            return
        if missing := lacking(KERNEL):
            raise DataplaneError(
                f"this process lacks {', '.join(missing)}, without which the kernel takes no "
                f"programs; give it {', '.join(sorted(KERNEL))}, or run it as root"
            )
        if self._expedites and not os.access(grace.RCU_EXPEDITED, os.W_OK):
            log.warning("dataplane.grace_periods_slow", cannot_write=str(grace.RCU_EXPEDITED))
        mount_bpffs(self._pins.root)
        try:
            self._open_maps()
            self._open_programs()
            self._inside(self._open_devices)
            if not self._staged:
                self._move_links()
        except BaseException:
            self.close()
            raise

    def _open_maps(self) -> None:
        directory = self._pins.make(self._pins.maps(self._schema))
        others = [self._pins.maps(name) for name in self._pins.schemas() if name != self._schema]
        self._maps = migration.open_maps(layout.shapes(self.sizes), directory, others)
        if self._settings().filled:
            return
        copied = next(filter(None, (migration.copy_entries(self._maps, it) for it in others)), None)
        if copied is not None:
            self._set(filled=True, fresh_at=copied.fresh_at)
        elif not others:
            self._set(filled=True)
        else:
            self._staged = True
            log.warning("dataplane.staged", schema=self._schema, waits_for="a full write")

    def _open_programs(self) -> None:
        sources = self._sources or source.folder()
        directory = self._pins.programs(self._schema, source.fingerprint(sources))
        self._programs = programs.pinned(directory)
        if self._programs:
            return
        self._pins.make(directory)
        maps = self._pins.maps(self._schema)
        paths = [maps, directory, sources]
        if self._compiled is not None:
            paths.append(self._compiled)
        loader = [sys.executable, "-m", "tabard.agent.ebpf.load"]
        try:
            done = subprocess.run(
                [*loader, *map(str, paths)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LOAD_S_MAX,
            )
        except subprocess.TimeoutExpired as error:
            raise DataplaneError(f"the eBPF loader took more than {LOAD_S_MAX} s") from error
        self._programs = programs.pinned(directory)
        if done.returncode != 0 or not self._programs:
            raise DataplaneError(
                f"the eBPF loader failed ({done.returncode}): "
                f"{done.stderr.decode(errors='replace').strip()[-4000:]}"
            )

    def _open_devices(self) -> None:
        config = self._config
        overlay = 0
        if config.mode is Mode.OVERLAY:
            overlay = device.ensure(config.overlay_device, config.tunnel_port)
        self._set(
            mode=config.mode,
            tunnel_port=config.tunnel_port,
            overlay_ifindex=overlay,
            guards_node=self._has_node(),
            stale_after_s=config.stale_after_s,
        )
        if config.mode is Mode.OVERLAY:
            self._attach(self._pins.overlay, "from_overlay", overlay)
            device.raise_up(overlay)
        if config.underlay_device:
            wire = links.interface_index(config.underlay_device)
            self._attach(self._pins.wire, "from_wire", wire)
            if self._settings().guards_node:
                self._attach(self._pins.wire, "to_wire", wire)

    def _attach(self, directory: Path, name: str, ifindex: int) -> None:
        """Attach, or leave a link of the old schema where it is while the new one is not filled."""
        self._pins.make(directory)
        if self._staged and links.link_ifindex(directory / name) == ifindex:
            return
        links.attach(directory, name, self._programs[name], ifindex)

    def _move_links(self) -> None:
        """All links to the programs of now; then other programs and schemas go."""
        for directory in (self._pins.overlay, self._pins.wire, self._pins.proxy):
            for path in links.links_in(directory):
                if links.link_ifindex(path):
                    links.move(path, self._programs[path.name])
        for _, directory in self._pins.pods():
            paths = links.links_in(directory)
            if not any(map(links.link_ifindex, paths)):
                self._pins.drop(directory)  # the interface was deleted
                continue
            for path in paths:
                links.move(path, self._programs[path.name])
        for schema in self._pins.schemas():
            if schema != self._schema:
                self._pins.drop(self._pins.maps(schema))
        current = source.fingerprint(self._sources or source.folder())
        for fingerprint in self._pins.fingerprints(self._schema):
            if fingerprint != current:
                self._pins.drop(self._pins.programs(self._schema, fingerprint))
        self._staged = False

    def close(self) -> None:
        for opened in self._maps.values():
            opened.close()
        for program in self._programs.values():
            os.close(program)
        self._maps, self._programs = {}, {}

    def remove(self) -> None:
        self.close()
        self._pins.drop_node()
        if self._config.mode is Mode.OVERLAY:
            with contextlib.suppress(LinkGone):  # the namespace went before, and the device with it
                self._inside(lambda: device.remove(self._config.overlay_device))

    # ---- what is enforced

    def read(self) -> Maps:
        items = {name: self._map(name).items() for name in layout.POLICY_MAPS}
        return Maps(
            policies={
                layout.unpack_policy(k): layout.unpack_strength(v) for k, v in items["policies"]
            },
            identities=frozenset(layout.IDENTITY.unpack(k)[0] for k, _ in items["identities"]),
            nodes=frozenset(Address(k) for k, _ in items["nodes"]),
            prefixes={
                layout.unpack_prefix_key(k): layout.unpack_prefix(v) for k, v in items["prefixes"]
            },
            hosts={Address(k): layout.IDENTITY.unpack(v)[0] for k, v in items["hosts"]},
            endpoints={Address(k): layout.unpack_entry(v) for k, v in items["endpoints"]},
        )

    def write(self, change: Change) -> None:
        identity, policy = layout.IDENTITY.pack, layout.pack_policy
        prefix_key, prefix = layout.pack_prefix_key, layout.pack_prefix
        if self._lingers:
            self._let_packets_end()
        entries = sorted(
            change.policies_set.items(), key=lambda entry: specificity(entry[0]), reverse=True
        )
        self._map("policies").update((policy(k), layout.pack_strength(v)) for k, v in entries)
        identities, endpoints = self._map("identities"), self._map("endpoints")
        there = self._endpoints_at(change.endpoints_set)
        turn = turn_of(change, there)
        turned = {at: change.endpoints_set[at] for at in there.keys() - turn.endpoints}
        new = {at: one for at, one in change.endpoints_set.items() if at not in turned}
        late = change.identities_added & turn.identities
        rebound = {at: change.hosts_set[at] for at in turn.hosts if at in change.hosts_set}
        nobody = dict.fromkeys(turn.hosts, Reserved.UNKNOWN)
        identities.update((identity(number), PRESENT) for number in change.identities_added - late)
        self._map("nodes").update((node, PRESENT) for node in change.nodes_added)
        self._map("prefixes").update(
            (prefix_key(k), prefix(v)) for k, v in change.prefixes_set.items()
        )
        self._set_hosts({**change.hosts_set, **nobody} if nobody else change.hosts_set)
        identities.delete(map(identity, change.identities_removed & turn.identities))
        is_guarded = self._settings().guards_node
        if not is_guarded and any(map(is_of_node, change.endpoints_set.values())):
            self._guard_node()
        self._lingers |= bool(turn.endpoints)
        endpoints.delete(turn.endpoints)
        for place, endpoint in turned.items():
            self._lingers = True
            self._replace("replace_endpoint", place, layout.pack_endpoint(endpoint))
        if turn.is_one and self._lingers and (late or rebound or new):
            # By the rule set of before nobody may meet who is new.
            self._let_packets_end()
        identities.update((identity(number), PRESENT) for number in late)
        self._set_hosts(rebound)
        endpoints.update((place, layout.pack_entry(endpoint)) for place, endpoint in new.items())
        self._lingers |= bool(change.hosts_removed)
        if is_guarded and change.endpoints_removed:
            self._leave_node()
        self._map("hosts").delete(change.hosts_removed)
        if (change.prefixes_removed or change.prefixes_widened) and self._lingers:
            # By a rule set that knows a CIDR, nobody may look up what lies around it.
            self._let_packets_end()
        self._map("prefixes").update(
            (prefix_key(k), prefix(v)) for k, v in change.prefixes_widened.items()
        )
        self._map("prefixes").delete(map(prefix_key, change.prefixes_removed))
        self._map("nodes").delete(change.nodes_removed)
        if unknown := change.identities_removed - turn.identities:
            self._let_packets_end()
            identities.delete(map(identity, unknown))
        if change.policies_removed:
            self._let_packets_end()
            removed = sorted(change.policies_removed, key=specificity)
            self._map("policies").delete(map(policy, removed))
        if self._staged and not change.is_part:
            self._set(filled=True)
            self._move_links()
            log.info("dataplane.migrated", schema=self._schema)

    def _guard_node(self) -> None:
        """Before its first entry is there, which then holds for what comes and for what goes."""

        def guard() -> None:
            wire = links.interface_index(self._config.underlay_device)
            with self._expedited():
                self._attach(self._pins.wire, "to_wire", wire)

        if self.guards_node:
            self._inside(guard)
        self._set(guards_node=True)

    def _leave_node(self) -> None:
        """If its last entry is gone."""
        if not self._has_node():
            self._set(guards_node=False)
            self._pins.wire.joinpath("to_wire").unlink(missing_ok=True)

    def _has_node(self) -> bool:
        values = (value for _, value in self._map("endpoints").items())
        return any(is_of_node(layout.unpack_entry(value)) for value in values)

    def _set_hosts(self, entries: Mapping[Address, int]) -> None:
        hosts = self._map("hosts")
        there = () if hosts.is_empty() else [place for place in entries if place in hosts]
        for place in there:
            self._replace("replace_host", place, layout.IDENTITY.pack(entries[place]))
        new = {place: entries[place] for place in entries.keys() - there} if there else entries
        hosts.update(zip(new, map(layout.IDENTITY.pack, new.values()), strict=True))

    def _endpoints_at(self, places: Iterable[Address]) -> dict[Address, Endpoint]:
        endpoints, found = self._map("endpoints"), {}
        for place in places:
            with contextlib.suppress(KeyError):
                found[place] = layout.unpack_entry(endpoints.get(place))
        return found

    def _replace(self, program: str, key: bytes, value: bytes) -> None:
        """Change an entry in place (bpf/replace.h)."""
        try:
            ran = syscalls.program_test_run(self._programs[program], bytes(14) + key + value)
        except OSError as error:
            raise DataplaneError(f"{program} cannot be run: {error.strerror}") from error
        if ran.returned != syscalls.TC_ACT_OK:
            raise DataplaneError(f"somebody else removed {address_text(key)} while it was written")

    def _let_packets_end(self) -> None:
        """Until no packet goes by entries that it found before this call."""
        with self._expedited():
            try:
                grace.wait()
            except OSError as error:
                raise DataplaneError(
                    f"the kernel takes no membarrier(2): {error.strerror}; boot without nohz_full"
                ) from error
        self._lingers = False

    def refresh(self, at: int) -> None:
        self._set(fresh_at=at)

    # ---- interfaces

    def forget(self, is_another: Callable[[Address, int], bool]) -> int:
        flows = self._map("conntrack")
        self._let_packets_end()  # and open what flows they still may
        gone = {
            key: layout.forgotten(value)
            for key, value in flows.items()
            if is_another(*layout.flow_peer(key, value))
        }
        flows.replace(gone.items())
        return len(gone)

    def attach(self, uid: str, interface: str) -> tuple[int, bytes]:
        self._map("endpoints")  # open

        def guard() -> tuple[int, bytes]:
            ifindex, mac = links.interface_index(interface), links.interface_mac(interface)
            directory = self._pins.pod(uid)
            with self._expedited():
                for name in ("from_pod", "to_pod"):
                    self._attach(directory, name, ifindex)
            return ifindex, mac

        return self._inside(guard)

    def attached(self) -> Mapping[str, int]:
        found = {}
        for uid, directory in self._pins.pods():
            both = {links.link_ifindex(directory / name) for name in ("from_pod", "to_pod")}
            if len(both) == 1 and (ifindex := both.pop()):
                found[uid] = ifindex
        return found

    def detach(self, uid: str) -> None:
        self._pins.drop(self._pins.pod(uid))

    # ---- the DNS proxy

    def divert(self) -> int:
        self._map("settings")  # open

        def open_device() -> int:
            descriptor = tap.open_device(self._config.proxy_device)
            try:
                ifindex = links.interface_index(self._config.proxy_device)
                self._attach(self._pins.proxy, "from_proxy", ifindex)
                device.raise_up(ifindex)
                self._set(proxy_ifindex=ifindex)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

        return self._inside(open_device)

    # ---- what was seen

    def watch(self, deliver: Callable[[list[Verdict]], None]) -> Callable[[], None]:
        events = self._map("events")
        loop = asyncio.get_running_loop()
        reader = EventReader(events.descriptor, events.shape.entries)
        # A descriptor of its own: `close`, on another thread, does not pull it from under the loop.
        descriptor = os.dup(events.descriptor)
        stopped = False

        def readable() -> None:
            if verdicts := reader.read():
                deliver(verdicts)

        def stop() -> None:
            nonlocal stopped
            if stopped:
                return
            stopped = True
            loop.remove_reader(descriptor)
            reader.close()
            os.close(descriptor)

        loop.add_reader(descriptor, readable)
        return stop

    def counters(self) -> Mapping[tuple[Direction, Reason], int]:
        held, found = dict(self._map("counters").items()), {}
        for direction in Direction:
            for reason in Reason:
                index = direction * layout.REASONS_MAX + reason
                values = layout.COUNTER.iter_unpack(held[layout.IDENTITY.pack(index)])
                if packets := sum(value for (value,) in values):
                    found[direction, reason] = packets
        return found

    # ---- small parts

    def _expedited(self) -> AbstractContextManager[object]:
        return grace.expedited() if self._expedites else contextlib.nullcontext()

    def _map(self, name: str) -> KernelMap:
        if not self._maps:
            raise DataplaneError("the dataplane is not open")
        return self._maps[name]

    def _settings(self) -> Settings:
        return layout.unpack_settings(self._map("settings").get(SETTINGS_KEY))

    def _set(self, **changes: Any) -> None:
        """Fields of Settings."""
        now = self._settings()
        settings = replace(now, **changes)
        if settings != now:
            self._map("settings").update([(SETTINGS_KEY, layout.pack_settings(settings))])

    def _inside(self, function: Callable[[], T]) -> T:
        """In the node's network namespace."""
        if not self._netns:
            return function()
        try:
            return enter.call(self._netns, function)
        except enter.NamespaceAbsent as error:
            raise LinkGone(str(error)) from error
        except enter.NamespaceError as error:
            raise DataplaneError(str(error)) from error
