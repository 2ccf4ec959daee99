"""What a shell is offered for an argument: names from the running cluster.

Someone waits with a finger on the key: within COMPLETE_S_MAX there is an answer, or none. Nothing
is told of what goes wrong, since it would stand in the middle of the line that is being typed.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from tabard.cli import kinds

if TYPE_CHECKING:
    from tabard.cluster.profile import Profile
    from tabard.ledger.state import State

COMPLETE_S_MAX = 1.0
"""Longest that the bus may take: to be reached, and to give the whole ledger."""


def shown_kinds(context: typer.Context, incomplete: str) -> list[str]:
    """The kinds that `get` shows."""
    return _matching(kinds.SHOWN, incomplete)


def scenarios(context: typer.Context, incomplete: str) -> list[str]:
    """Those of `chaos run`, and `all`."""
    from tabard.chaos.scenarios import ALL, SCENARIOS

    return _matching([ALL, *(each.name for each in SCENARIOS)], incomplete)


def faults(context: typer.Context, incomplete: str) -> list[str]:
    """Those that `chaos simulate` can plant."""
    from tabard.simulator.faults.catalogue import FAULTS

    return _matching(FAULTS, incomplete)


def clusters(context: typer.Context, incomplete: str) -> list[str]:
    """Those that run on this machine."""
    from tabard.cluster import profile

    running = profile.running_clusters(profile.run_directory())
    return _matching((each.name for each in running), incomplete)


def services(context: typer.Context, incomplete: str) -> list[str]:
    """Of the chosen cluster."""
    return _matching(_of_profile(context, lambda profile: profile.http), incomplete)


def nodes(context: typer.Context, incomplete: str) -> list[str]:
    """Of the chosen cluster on this machine."""
    return _matching(_of_profile(context, lambda profile: profile.nodes), incomplete)


def namespaces(context: typer.Context, incomplete: str) -> list[str]:
    def names(state: "State") -> Iterable[str]:
        return {*state.namespaces, *(pod.namespace for pod in state.endpoints.values())}

    return _matching(_of_state(context, names), incomplete)


def pods(context: typer.Context, incomplete: str) -> list[str]:
    """As `namespace/name`."""

    def names(state: "State") -> Iterable[str]:
        return (f"{pod.namespace}/{pod.name}" for pod in state.endpoints.values())

    return _matching(_of_state(context, names), incomplete)


def pod_node_or_kind(context: typer.Context, incomplete: str) -> list[str]:
    """For `delete pod NS/NAME` and `delete node NAME`."""
    match context.params.get("what"):
        case ["pod" | "pods", *_]:
            return pods(context, incomplete)
        case ["node" | "nodes", *_]:
            known = _of_state(context, lambda state: {*state.nodes, *state.refused_nodes})
            return _matching(known, incomplete)
    return _matching(["pod", "node"], incomplete)


def described(context: typer.Context, incomplete: str) -> list[str]:
    """The names of what `describe` was given the kind of; without namespace after -n."""
    from tabard.bus.port import Stream
    from tabard.cli.tables import VIEWS
    from tabard.cli.views import Reading

    kind = kinds.shown(context.params.get("kind") or "")
    if kind is None:
        return []
    if kind == "streams":
        return _matching((each.value for each in Stream), incomplete)
    namespace, view = context.params.get("namespace"), VIEWS[kind]

    def names(state: "State") -> Iterable[str]:
        for row in view.rows(Reading(state)):
            if not namespace or "namespace" not in view.name:
                yield "/".join(filter(None, (str(row[key]) for key in view.name)))
            elif row["namespace"] == namespace:
                yield row["name"]

    return _matching(set(_of_state(context, names)), incomplete)


def explained(context: typer.Context, incomplete: str) -> list[str]:
    """The next word of a command that prints JSON."""
    from tabard.cli.documents import COMMANDS

    before = context.params.get("what") or []
    commands = [command.replace(",", "").split() for command in COMMANDS]
    after = {
        each[len(before)]
        for each in commands
        if len(each) > len(before) and each[: len(before)] == list(before)
    }
    return _matching(after, incomplete)


def side(context: typer.Context, incomplete: str) -> list[str]:
    """What `policy diff` compares: paths, and the cluster."""
    return [*_matching(["cluster"], incomplete), *paths(context, incomplete)]


def paths(context: typer.Context, incomplete: str) -> list[str]:
    """Files and directories, as the shell would offer them."""
    from pathlib import Path

    directory, slash, begun = incomplete.rpartition("/")
    try:
        entries = sorted(Path(directory + slash or ".").iterdir())
    except OSError:
        entries = []
    return [
        f"{directory}{slash}{each.name}{'/' if each.is_dir() else ''}"
        for each in entries
        if each.name.startswith(begun) and (begun or not each.name.startswith("."))
    ]


def workloads(context: typer.Context, incomplete: str) -> list[str]:
    """What can be scaled, as `kind/name`."""

    from tabard.manifests.workloads import SCALABLE

    def names(state: "State") -> Iterable[str]:
        return {f"{kind.lower()}/{name}" for kind, _, name in state.workloads if kind in SCALABLE}

    return _matching(_of_state(context, names), incomplete)


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))


def _chosen(context: typer.Context) -> tuple[str, str]:
    """The values of --cluster and --nats typed so far."""
    return context.params.get("cluster") or "", context.params.get("nats") or ""


def _of_profile(
    context: typer.Context, names: "Callable[[Profile], Iterable[str]]"
) -> Iterable[str]:
    from tabard.cli.reach import target
    from tabard.cluster.errors import ClusterError

    try:
        profile = target(*_chosen(context)).profile
    except ClusterError:
        return ()
    return () if profile is None else names(profile)


def _of_state(context: typer.Context, names: "Callable[[State], Iterable[str]]") -> Iterable[str]:
    import structlog

    from tabard.bus.port import BusError
    from tabard.cli import reach
    from tabard.cluster.errors import ClusterError
    from tabard.ledger.follow import catch_up
    from tabard.ledger.reader import Stopped
    from tabard.ledger.state import State
    from tabard.netns.enter import NamespaceError

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    state = State()

    async def fold(chosen: reach.Target) -> None:
        async with (
            asyncio.timeout(COMPLETE_S_MAX),
            reach.connected(chosen, COMPLETE_S_MAX) as bus,
        ):
            await catch_up(bus, state)

    try:
        chosen = reach.target(*_chosen(context))
        with chosen.inside():
            asyncio.run(fold(chosen))
    except (ClusterError, NamespaceError, BusError, TimeoutError, Stopped):
        # What was read before is offered all the same.
        pass
    return names(state)
