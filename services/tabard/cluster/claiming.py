"""A run's name and its data directory: whose they are, and taking them."""

from contextlib import suppress
from pathlib import Path

import structlog

from tabard.auth.roles import Role
from tabard.cluster import guard, profile
from tabard.cluster.errors import ClusterError
from tabard.cluster.profile import Profile
from tabard.cluster.settings import Settings
from tabard.cluster.sweep import sweep
from tabard.cluster.tasks import wholly
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State
from tabard.process.places import own

log = structlog.get_logger(__name__)


async def kept_name(settings: Settings) -> str:
    """The name that a kept ledger carries; empty if there is none."""
    if settings.data is not None:
        with suppress(FileNotFoundError):
            return (settings.data / "name").read_text().strip()
    if not settings.nats:
        return ""
    auth = None if settings.auth is None else await wholly(guard.given, settings.auth)
    async with guard.connected(settings.nats, auth, Role.ADMIN) as admin:
        await admin.ensure_streams(settings.stream_replicas)
    async with guard.connected(settings.nats, auth, Role.OPERATOR) as bus:
        adopted = (await catch_up(bus, State())).settings
    return adopted.cluster if adopted is not None else ""


def own_data(directory: Path) -> Path:
    """The data directory, made if absent. Who writes there names keys and processes to end."""
    try:
        return own(directory.resolve())
    except PermissionError as error:
        raise ClusterError(f"data cannot be kept there: {error}", f"ls -ld {directory}") from error


def take(claimed: Profile, directory: Path, stop_timeout_s: float) -> None:
    """Write the profile, sweeping what a dead run of its name left; ClusterError if one lives.
    Blocks."""
    while True:
        try:
            profile.claim(claimed, directory)
            return
        except FileExistsError:
            old = profile.read(claimed.name, directory)
        if old is not None and old.alive:
            raise ClusterError(
                f"cluster {old.name} runs already (process {old.pid})",
                f"tabard status --cluster {old.name}",
            )
        if old is not None:
            log.warning("cluster.swept", cluster=old.name, pid=old.pid)
            sweep(old, directory, stop_timeout_s)
