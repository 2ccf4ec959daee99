"""`tabard apply`, `delete`, `scale` and `label`."""

from typing import Annotated

import typer

from tabard.cli import completion
from tabard.cli.options import Cluster, Files, Nats, NoWait, Timeout, Wait, place, until, usage
from tabard.identity.syntax import LABEL_VALUE, is_label_key


def apply(
    files: Files = None,
    no_wait: NoWait = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Publish what manifests say: namespaces, policies, workloads.

    Exits 1 if any is refused. --wait waits for the nodes' watermarks, not for pods to start.

    Example: tabard apply -f compose/shop --wait
    """
    from tabard.cli import change

    if not files:
        usage("apply needs -f FILE or -f DIR")
    change.apply(files, until(no_wait, wait), timeout, cluster, nats)


def delete(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[pod NS/NAME…|node NAME…]", autocompletion=completion.pod_node_or_kind
        ),
    ] = None,
    files: Files = None,
    no_wait: NoWait = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Take away what manifests declare, pods, or nodes that are gone.

    A workload's pod is replaced. Exits 1 if nothing of what manifests declare is there. A node must
    not have an agent that still speaks; its addresses and pod CIDRs are free for others then.

    Example: tabard delete pod shop/web-0
    """
    from tabard.cli import change

    chosen = until(no_wait, wait)
    if bool(files) == bool(what):
        usage("delete needs either -f FILE, pod NS/NAME or node NAME")
    if files:
        change.delete_objects(files, chosen, timeout, cluster, nats)
        return
    kind, *names = what or [""]
    if kind in ("node", "nodes") and names:
        change.delete_nodes(names, chosen, timeout, cluster, nats)
        return
    if kind not in ("pod", "pods") or not names:
        usage("delete takes pod NS/NAME or node NAME; everything else by -f")
    for name in names:
        place(name)
    change.delete_pods(names, chosen, timeout, cluster, nats)


def scale(
    workload: Annotated[
        str, typer.Argument(metavar="KIND/NAME", autocompletion=completion.workloads)
    ],
    replicas: Annotated[int, typer.Option(min=0, help="How many pods it should have.")],
    namespace: Annotated[
        str,
        typer.Option(
            "-n",
            "--namespace",
            metavar="NS",
            help="The workload's namespace.",
            autocompletion=completion.namespaces,
        ),
    ] = "default",
    no_wait: NoWait = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Change how many pods a workload has.

    KIND is deployment (deploy), replicaset (rs) or statefulset (sts). --wait waits for the nodes'
    watermarks, not for the pods, which start afterwards: tabard get workloads shows how many run.

    Example: tabard scale deployment/frontend -n shop --replicas 20
    """
    from tabard.cli import change

    kind, separator, name = workload.partition("/")
    if not (kind and separator and name):
        usage(f"{workload!r} is not KIND/NAME, such as deployment/frontend")
    change.scale((kind, namespace, name), replicas, until(no_wait, wait), timeout, cluster, nats)


def label(
    kind: Annotated[str, typer.Argument(metavar="pod", autocompletion=lambda: ["pod"])],
    name: Annotated[str, typer.Argument(metavar="NS/NAME", autocompletion=completion.pods)],
    labels: Annotated[list[str], typer.Argument(metavar="KEY=VALUE|KEY-…")],
    no_wait: NoWait = False,
    wait: Wait = False,
    timeout: Timeout = 30.0,
    cluster: Cluster = "",
    nats: Nats = "",
) -> None:
    """Change a running pod's labels, and so its identity.

    KEY- removes one.

    Example: tabard label pod shop/web-0 role=admin tier-
    """
    from tabard.cli import change

    if kind not in ("pod", "pods"):
        usage(f"only a pod can be labelled, not {kind!r}; other objects by apply -f")
    place(name)
    change.label(
        name,
        [_label_change(text) for text in labels],
        until(no_wait, wait),
        timeout,
        cluster,
        nats,
    )


def _label_change(text: str) -> tuple[str, str | None]:
    """`key=value` as (key, value), `key-` as (key, None)."""
    key, equals, value = text.partition("=")
    if not equals:
        key, minus = text[:-1], text[-1:]
        if minus != "-":
            usage(f"{text!r} is neither KEY=VALUE nor KEY-")
    if not is_label_key(key):
        usage(f"{key!r} is no label's key, such as role or example.com/role")
    if not LABEL_VALUE.fullmatch(value):
        usage(
            f"{text!r}: a value has up to 63 letters, digits, '-', '_' and '.', and begins and "
            "ends with a letter or digit"
        )
    return key, value if equals else None
