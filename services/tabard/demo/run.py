"""The demo from beginning to end: a cluster, the shop, four trials."""

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

from tabard.cluster.errors import ClusterError
from tabard.cluster.settings import Settings
from tabard.cluster.supervisor import Cluster
from tabard.demo import cast, churn, outage, scale, truth
from tabard.demo.probe import Target
from tabard.demo.report import Report
from tabard.demo.scale import Scale
from tabard.demo.session import Session, TrialError
from tabard.demo.stage import Stage
from tabard.manifests.events import applied
from tabard.manifests.reading import read

T = TypeVar("T")
Dataplane = Literal["auto", "ebpf", "memory"]

NODES = 3
PODS_TIMEOUT_S = 60.0


async def demo(stage: Stage, dataplane: Dataplane = "auto") -> Report:
    """Run all trials on the example; what failed is in the report."""
    began = time.monotonic()
    report = Report("none")
    manifests = example()
    overlay = Settings(nodes=NODES, mode="overlay", dataplane=dataplane)
    async with Cluster(overlay, tell=stage.say) as cluster:
        report.dataplane = cluster.profile.dataplane
        session = await _open(cluster, manifests, stage)
        await _trials(cluster, session, report, stage)
    stage.say("the same scale-out in native mode, in a second cluster")
    async with Cluster(replace(overlay, mode="native"), tell=stage.say) as cluster:
        session = await _open(cluster, manifests, stage)
        scaled = await _attempt(report, "scale (native)", _scale(cluster, session, stage))
        report.scales += [scaled] if scaled else []
    report.seconds = time.monotonic() - began
    return report


def example() -> Path:
    """The shop's manifests: beside this package when it is installed, else in the checkout."""
    packaged = Path(__file__).parent / "shop"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "compose" / "shop"


async def _open(cluster: Cluster, manifests: Path, stage: Stage) -> Session:
    """Apply the example and wait until every pod is up."""
    session = Session(cluster)
    objects = await asyncio.to_thread(read, [manifests])
    await session.change(applied(objects.objects))
    await session.pods_up(PODS_TIMEOUT_S, lambda done, total: stage.progress("pods", done, total))
    return session


async def _trials(cluster: Cluster, session: Session, report: Report, stage: Stage) -> None:
    stage.say("trial 1: every pod to every pod, on every port")
    report.truth = await _attempt(
        report,
        "truth table",
        truth.run(session, lambda done, total: stage.progress("probes", done, total)),
    )
    stage.say(f"trial 2: scale the frontend to {cast.FRONTEND_REPLICAS}")
    scaled = await _attempt(report, "scale", _scale(cluster, session, stage))
    report.scales += [scaled] if scaled else []
    stage.say("trial 3: relabel a pod; reuse a pod's address")
    for name, trial in (("relabel", _relabel(session)), ("address reuse", _reuse(session))):
        changed = await _attempt(report, name, trial)
        report.churns += [changed] if changed else []
    if not session.real:
        stage.say("trial 4 is left out: a memory dataplane ends with its agent, a kernel does not")
        return
    stage.say("trial 4: SIGKILL every agent and the allocator under traffic")
    report.outage = await _attempt(report, "outage", _outage(cluster, session))


async def _attempt(report: Report, name: str, trial: Awaitable[T]) -> T | None:
    """A trial's outcome; why it could not be carried out goes into the report."""
    try:
        return await trial
    except (TrialError, ClusterError) as error:
        report.failures.append(f"{name}: {error}")
        return None


async def _scale(cluster: Cluster, session: Session, stage: Stage) -> Scale:
    await session.settle()
    pod = session.pods("shop", "frontend")[0]
    return await scale.run(
        session,
        cast.FRONTEND,
        cast.FRONTEND_REPLICAS,
        client=cast.caller(session, pod, cast.FRONTEND_PORT, may=True),
        outsider=cast.caller(session, pod, cast.FRONTEND_PORT, may=False),
        target=cast.FRONTEND_PORT,
        tell=lambda done, total: stage.progress("pods started", done, total),
    )


async def _relabel(session: Session) -> churn.Churn:
    await session.settle()
    pod = session.pods("shop", "checkout")[0]
    return await churn.relabel(session, pod, cast.SUSPECT, cast.lost_targets(session, pod))


async def _reuse(session: Session) -> churn.Churn:
    await session.settle()
    client = session.pods("shop", "frontend")[0]
    node = next(name for name in sorted(session.state.nodes) if name != client.node)
    checkout = dict(session.pods("shop", "checkout")[-1].labels)
    visitor = await churn.start(session, cast.bare_pod("visitor", checkout, node))
    return await churn.reuse(
        session,
        visitor,
        cast.bare_pod("stranger", {"app": "stranger"}, node),
        cast.lost_targets(session, visitor),
        cast.VISITOR_PORT,
        client,
    )


async def _outage(cluster: Cluster, session: Session) -> outage.Outage:
    await session.settle()
    pod = session.pods("shop", "frontend")[0]
    client = cast.caller(session, pod, cast.FRONTEND_PORT, may=True)
    return await outage.run(
        session,
        cluster,
        cast.flows(session),
        cast.denied(session),
        (client, Target(pod.addresses[0], *cast.FRONTEND_PORT)),
    )
