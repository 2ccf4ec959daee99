"""From the maps of one schema to those of another, without an open window.

The programs at the hooks go on with the old maps until the new ones hold a full set; only then do
the links move. What packets write (conntrack and the like) is the same map in both, so long as its
own shape did not change: it is pinned in the new place, not copied, and loses nothing.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tabard.agent.ebpf.layout import (
    POLICY_MAPS,
    SETTINGS_KEY,
    STATE_MAPS,
    Settings,
    Shape,
    is_same_format,
    unpack_settings,
)
from tabard.agent.ebpf.maps import KernelMap, open_map
from tabard.dataplane.port import MapFull


def open_maps(
    shapes: Iterable[Shape], directory: Path, others: Iterable[Path]
) -> dict[str, KernelMap]:
    """The schema's maps by name; missing ones are taken over from the `others`, or made."""
    maps: dict[str, KernelMap] = {}
    try:
        for shape in shapes:
            path = directory / shape.name
            if shape.name in STATE_MAPS and not path.exists():
                for other in others:
                    carried = KernelMap.find(shape, other / shape.name)
                    if carried is not None:
                        maps[shape.name] = carried
                        carried.pin(path)
                        break
            if shape.name not in maps:
                maps[shape.name] = open_map(shape, path)
    except BaseException:
        for opened in maps.values():
            opened.close()
        raise
    return maps


def copy_entries(maps: Mapping[str, KernelMap], source: Path) -> Settings | None:
    """Fill the maps from the full set of another schema, and give its settings; None if it is none,
    means something else, or does not fit. What was copied then is for the agent to complete or to
    clear."""
    if not is_same_format(source.name):
        return None
    settings = _settings(maps["settings"].shape, source)
    if settings is None or not settings.filled:
        return None
    for name in POLICY_MAPS:
        new = maps[name]
        old = KernelMap.find(new.shape, source / name, any_size=True)
        if old is None:
            return None
        try:
            new.update(old.items())
        except MapFull:
            return None
        finally:
            old.close()
    return settings


def _settings(shape: Shape, source: Path) -> Settings | None:
    settings = KernelMap.find(shape, source / shape.name)
    if settings is None:
        return None
    try:
        return unpack_settings(settings.get(SETTINGS_KEY))
    finally:
        settings.close()
