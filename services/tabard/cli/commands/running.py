"""`tabard up`, `demo` and `down`."""

from typing import Annotated

import typer

from tabard.cli.options import Cluster, DataplaneName, Files, ModeName, PodsName, usage


def up(
    files: Files = None,
    nodes: Annotated[int, typer.Option(min=1, max=100, help="How many nodes.")] = 3,
    allocators: Annotated[
        int, typer.Option(min=1, max=9, help="How many allocators: one leads, the rest stand by.")
    ] = 1,
    mode: Annotated[
        ModeName, typer.Option(help="How packets carry identities between nodes.")
    ] = ModeName.OVERLAY,
    pods: Annotated[
        PodsName | None,
        typer.Option(help="Real pods in namespaces, pods at the gate only, or events only."),
    ] = None,
    dataplane: Annotated[
        DataplaneName, typer.Option(help="What enforces; auto takes ebpf where it can.")
    ] = DataplaneName.AUTO,
    nats: Annotated[
        str, typer.Option(metavar="URL,…", help="An existing bus instead of one of its own.")
    ] = "",
    bus_servers: Annotated[
        int, typer.Option(help="How many servers hold the cluster's own bus: 1, 3 or 5.")
    ] = 1,
    replicas: Annotated[int, typer.Option(help="Stream replicas on an existing bus.")] = 1,
    secure: Annotated[
        bool,
        typer.Option("--secure", help="TLS on its own bus, and a key of its own for each process."),
    ] = False,
    auth: Annotated[
        str, typer.Option(metavar="DIR", help="Auth directory of an existing bus that is guarded.")
    ] = "",
    data: Annotated[
        str, typer.Option(metavar="DIR", help="State directory, kept; else a temporary one.")
    ] = "",
    name: Annotated[
        str,
        typer.Option("--name", "--cluster", metavar="RUN", help="The cluster's name; else random."),
    ] = "",
    ready_timeout: Annotated[
        float, typer.Option(min=1.0, metavar="SECONDS", help="Longest wait until all is enforced.")
    ] = 60.0,
    settings_given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the parts. Repeatable."),
    ] = None,
) -> None:
    """Run a small cluster on this machine until Ctrl-C.

    Nothing of it is left then, but a directory given by --data.

    Settings for --set. For good, in the ledger from the first start on: LABELS_INCLUDE and
    LABELS_EXCLUDE (JSON lists of regular expressions of label keys), NUMBERS_CLUSTER_ID,
    NUMBERS_CLUSTER_BITS, FIXED (JSON: number in 128-255 to labels), RETIRE_GRACE_MS, NAMES_KEPT_MS.
    In the ledger too, until a later start with the same --data says otherwise: ENFORCEMENT
    (default: policies isolate pods; always: all are isolated; never: nothing is enforced). Of each
    allocator: SILENCE_MS (of the leader, after which another leads), NODE_LOST_MS and
    RELABEL_TIMEOUT_MS (for how long nodes are waited for), NODE_RANGES (CIDR,… in which all that
    they claim must lie), SNAPSHOT_EVENTS and SNAPSHOT_MS (after which one is due), BUS_READ_MS (how
    often it reads the bus's replicas; 0: never),
    BUS_MONITORING (URL,… of the servers of a bus given by --nats). Of each agent: IDENTITIES_MAX,
    POLICIES_MAX, NODES_MAX, PREFIXES_MAX, HOSTS_MAX, ENDPOINTS_MAX, CONNTRACK_MAX, FRAGMENTS_MAX
    (entries of its maps), DRIFT_INTERVAL_MS, RCU_EXPEDITED (0 leaves the kernel's grace periods
    alone while a pod is attached), NODE_LABELS (KEY=VALUE,… beside the hostname),
    STALENESS_AFTER_MS and STALENESS_THEN (hold or deny-new: what becomes of new flows when a node
    has not known for so long what the ledger says). Of every service: LOG_FORMAT (json or console),
    LOG_LEVEL.

    Example: tabard up -f compose/shop --nodes 3
    """
    pairs = [text.partition("=") for text in settings_given or []]
    if bad := [name for name, equals, _ in pairs if not equals]:
        usage(f"--set {bad[0]}: write NAME=VALUE")
    for option, number in (("--replicas", replicas), ("--bus-servers", bus_servers)):
        if number not in (1, 3, 5):
            usage(f"{option} must be 1, 3 or 5")
    if replicas > 1 and not nats:
        usage("--replicas needs --nats; of the cluster's own bus --bus-servers says how many")
    if bus_servers > 1 and nats:
        usage("--bus-servers makes a bus, --nats uses one that is there: give one of them")
    from pathlib import Path

    from tabard.cli import failing
    from tabard.cli.up import up as bring_up
    from tabard.cluster.errors import ClusterError
    from tabard.cluster.settings import Settings

    try:
        settings = Settings(
            name=name,
            nodes=nodes,
            allocators=allocators,
            mode=mode.value,
            pods=None if pods is None else pods.value,
            dataplane=dataplane.value,
            nats=tuple(url.strip() for url in nats.split(",") if url.strip()),
            bus_servers=bus_servers,
            replicas=replicas,
            secure=secure,
            auth=Path(auth) if auth else None,
            data=Path(data) if data else None,
            ready_timeout_s=ready_timeout,
            extra={name.upper(): value for name, _, value in pairs},
        )
    except ClusterError as error:
        failing.fail("bring the cluster up", failing.Failure(str(error), code=failing.Exit.USAGE))
    bring_up(settings, files or [])


def demo(
    json_file: Annotated[
        str, typer.Option("--json", metavar="FILE", help="Write all figures there, as JSON.")
    ] = "",
    dataplane: Annotated[
        DataplaneName, typer.Option(help="What enforces; auto takes ebpf where it can.")
    ] = DataplaneName.AUTO,
) -> None:
    """Run the main job on an example shop: real packets, four trials.

    It takes under a minute. Exit code 0 only if everything held. The figures are `probes`,
    `agree`, `disagree`, `resolve_ms`, `first_packet_ms`, `remote_map_writes_per_start` (by mode),
    `leaked`, `lost`, and the details of each trial.

    Example: tabard demo --json figures.json
    """
    from tabard.cli.demo import demo as run_demo

    run_demo(dataplane.value, json_file)


def down(cluster: Cluster = "") -> None:
    """End the cluster that is named, or clean up after killed ones.

    Without --cluster none that runs is ended: it may be another's.

    Example: tabard down --cluster demo
    """
    from tabard.cli.up import down as take_down

    take_down(cluster)
