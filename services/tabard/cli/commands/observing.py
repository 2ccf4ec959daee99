"""`tabard metrics` and `doctor`."""

from typing import Annotated

import typer

from tabard.cli.options import Cluster, Form
from tabard.cli.printing import Output


def metrics(
    services: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SERVICE…]", help="allocator, source, agent.NODE; else all."),
    ] = None,
    output: Form = Output.TABLE,
    cluster: Cluster = "",
) -> None:
    """Show each service's URL and readiness, or its metrics.

    Those that are named show their metrics. Each serves /metrics (for Prometheus), /healthz and /readyz. Exits 1 if one is not ready. JSON:
    {services: [{name, url, ready, reason}]}.

    Example: tabard metrics agent.n1
    """
    from tabard.cli.metrics import metrics as show

    show(services or [], output, cluster)
