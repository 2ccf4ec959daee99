"""`tabard metrics` and `doctor`."""

from typing import Annotated

import typer

from tabard.cli import completion
from tabard.cli.options import Cluster, Form, Nats
from tabard.cli.printing import Output


def metrics(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERVICE…]",
            help="allocator, source, agent.NODE; else all.",
            autocompletion=completion.services,
        ),
    ] = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
) -> None:
    """Show each service's URL and readiness, or its metrics.

    Those that are named show their metrics. Each serves /metrics (for Prometheus), /healthz and
    /readyz. Exits 1 if one is not ready. JSON: {services: [{name, url, ready, reason}]}.

    Example: tabard metrics agent.n1
    """
    from tabard.cli.metrics import metrics as show

    show(services or [], output, cluster)


def doctor(output: Form = Output.TABLE, cluster: Cluster = "", nats: Nats = "") -> None:
    """Check this machine, and the cluster if one is reached.

    Each check is ok, warn or fault, with what was observed; stderr says for each fault what to
    type. Exits 1 if there is a fault. JSON: {checks: [{name, outcome, fact, next}]}.

    Example: tabard doctor
    """
    from tabard.cli.doctor import doctor as examine

    examine(output, cluster, nats)
