"""`tabard up` and `tabard down`."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tabard.cli.change import Until, applied_to, carry_out, objects_in
from tabard.cli.failing import Failure, Interrupted, fail, run
from tabard.cli.printing import counted, tell
from tabard.cli.rollout import rolled_out
from tabard.cluster import profile
from tabard.cluster.errors import ClusterError
from tabard.cluster.profile import Profile
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster
from tabard.cluster.sweep import sweep
from tabard.identity.numbers import is_cidr
from tabard.ledger.follow import catch_up
from tabard.ledger.state import State
from tabard.manifests.objects import Manifests
from tabard.policy.reading import REFERENT_KINDS

DOWN_TIMEOUT_S = 30.0
"""How long a running cluster may take to remove itself."""


def up(settings: Settings, paths: Sequence[str]) -> None:
    run("bring the cluster up", _up(settings, paths), log_level="warning")


async def _up(settings: Settings, paths: Sequence[str]) -> None:
    begun = time.monotonic()
    ready = False
    # Read first: a mistake in a manifest should not cost a start.
    manifests = objects_in(paths) if paths else Manifests()
    try:
        with cancelled_by_signals():
            async with Cluster(settings, tell=tell) as cluster:
                await _apply(cluster, manifests, settings.ready_timeout_s)
                ready = True
                tell(f"up in {time.monotonic() - begun:.1f} s\n")
                _say_what_next(cluster.profile)
                await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not ready:
            left = "nothing of it is left" if settings.data is None else "the data is kept"
            raise Interrupted(f"before the cluster was ready; {left}") from None
    tell("nothing of the cluster is left" if settings.data is None else "the data is kept")


async def _apply(cluster: Cluster, manifests: Manifests, timeout_s: float) -> None:
    """Publish the manifests and wait until all their pods are enforced; ClusterError if refused."""
    if manifests.objects:
        state = await catch_up(cluster.bus, State())
        events = applied_to(state, manifests.objects)
        refusals = await carry_out(cluster.bus, state, events, Until.TAKEN, timeout_s)
        if refusals:
            raise Failure("refused: " + "; ".join(refusals), "mend the manifests")
    state = await rolled_out(cluster.bus, timeout_s, tell, attached=cluster.profile.pods != "none")
    tell(f"{inventory(state)}, enforced through LEDGER/{state.sequence}")


def inventory(state: State) -> str:
    """`23 pods with 14 identities (and 10 address ranges) and 12 policies`"""
    ranges = sum(map(is_cidr, state.identities))
    policies = sum(kind not in REFERENT_KINDS for kind, _, _ in state.policies)
    beside = f" (and {counted(ranges, 'address range')})" if ranges else ""
    return (
        f"{counted(len(state.endpoints), 'pod')} with "
        f"{counted(len(state.identities) - ranges, 'identity', 'identities')}{beside} and "
        f"{counted(policies, 'policy', 'policies')}"
    )


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Cancel this task at the first SIGINT, SIGTERM or SIGHUP; later ones do not stop clean-up."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    came: list[int] = []

    def on_signal(number: signal.Signals) -> None:
        if not came:
            task.cancel()
        else:
            tell("still removing the cluster")
        came.append(number)

    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in caught:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


def _say_what_next(running: Profile) -> None:
    one = profile.running_clusters(profile.run_directory())
    chosen = "" if len(one) == 1 else f" --cluster {running.name}"
    tell(f"Cluster {running.name} stays up until Ctrl-C. In another terminal:")
    for line in banner(chosen):
        tell(line)


def banner(chosen: str) -> list[str]:
    """Commands to try, each with the option `chosen`, and what they are for."""
    commands = (
        ("status", "how far everyone is"),
        ("get pods", "pods and their identities (also: identities, policies, nodes, names …)"),
        ("events tail", "the ledger as it grows"),
        ("apply -f FILE", "change something (also: delete, scale, label)"),
        ("metrics", "where each service serves /metrics, and whether it is ready"),
        ("drift", "does the kernel hold what the ledger says?"),
    )
    width = max(len(command) for command, _ in commands) + len(chosen)
    return [f"  tabard {command + chosen:<{width}}   {what}" for command, what in commands]


def down(name: str) -> None:
    directory = profile.run_directory()
    name = name or os.environ.get("TABARD_CLUSTER", "")
    try:
        if name:
            found = profile.read(name, directory) or _nameless(name)
            if found.alive:
                _end(found)
                tell(f"ended cluster {found.name} (process {found.pid})")
            _sweep(found, directory)
        else:
            _sweep_dead(directory)
    except ClusterError as error:
        fail("take the cluster down", error)


def _sweep_dead(directory: Path) -> None:
    """Failure if one runs: it may be another's, so only its name ends it."""
    every = [each for name in profile.names(directory) if (each := profile.read(name, directory))]
    running = [each for each in every if each.alive]
    for each in every:
        if each not in running:
            _sweep(each, directory)
    if running:
        raise Failure(
            "; ".join(f"cluster {each.name} runs (process {each.pid})" for each in running),
            f"tabard down --cluster {running[0].name}",
        )
    if not every and profile.roots_may_run():
        profile.find("", directory)  # which says so
    if not every:
        tell("no cluster runs on this machine")


def _sweep(dead: Profile, directory: Path) -> None:
    sweep(dead, directory, stop_timeout_s=5.0)
    tell(
        f"nothing of cluster {dead.name} is left"
        + (f", but the data in {dead.data}" if dead.keep_data and dead.data else "")
    )


def _nameless(name: str) -> Profile:
    """What can be taken down of a cluster whose profile is gone: namespaces and pins by name."""
    return Profile(name, 0, 0, (), "", "", True, (), "", "", "")


def _end(found: Profile) -> None:
    """Ask the supervisor to end, and make it if it does not."""
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while found.alive and time.monotonic() < deadline:
        time.sleep(0.05)
    if found.alive:
        tell(f"process {found.pid} does not end by itself")
        os.kill(found.pid, signal.SIGKILL)
        while found.alive:
            time.sleep(0.05)
