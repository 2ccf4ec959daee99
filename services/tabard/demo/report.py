"""What the trials found: figures for --json, tables and a summary for people."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

from tabard.demo.churn import Churn
from tabard.demo.outage import Outage
from tabard.demo.scale import Scale
from tabard.demo.truth import Truth

DISAGREEMENTS_SHOWN = 20


@dataclass(slots=True)
class Report:
    """The whole demo's outcome; a trial that did not run is None (or empty)."""

    dataplane: str
    truth: Truth | None = None
    scales: list[Scale] = field(default_factory=list)
    churns: list[Churn] = field(default_factory=list)
    outage: Outage | None = None
    failures: list[str] = field(default_factory=list)
    """Why a trial could not be carried out."""
    seconds: float = 0.0

    @property
    def leaked(self) -> int:
        return (
            sum(scale.leaked for scale in self.scales)
            + sum(churn.leaked + churn.passed_after for churn in self.churns)
            + (self.outage.leaked if self.outage else 0)
        )

    @property
    def lost(self) -> int:
        return self.outage.lost if self.outage else 0

    @property
    def unasked_writes(self) -> float:
        """Map writes in overlay mode on nodes where no local egress policy asks for them."""
        return sum(
            cost.map_writes
            for scale in self.scales
            if scale.mode == "overlay"
            for cost in scale.costs
            if not cost.because
        )

    @property
    def held(self) -> bool:
        """Whether everything that the demo claims was seen."""
        return (
            not self.failures
            and self.truth is not None
            and self.truth.probes > 0
            and self.truth.disagree == 0
            and self.leaked == 0
            and self.lost == 0
            and self.unasked_writes == 0
        )


def figures(report: Report) -> dict[str, Any]:
    """The fields of --json; times in milliseconds."""
    starts = [start for scale in report.scales[:1] for start in scale.starts]
    truth, outage = report.truth, report.outage
    return {
        "ok": report.held,
        "dataplane": report.dataplane,
        "seconds": round(report.seconds, 1),
        "probes": truth.probes if truth else 0,
        "agree": truth.agree if truth else 0,
        "disagree": truth.disagree if truth else 0,
        "retried": truth.retried if truth else 0,
        "resolve_ms": _spread(start.resolve_ms for start in starts),
        "ready_ms": _spread(start.ready_ms for start in starts),
        "first_packet_ms": _spread(start.first_packet_ms for start in starts),
        "remote_map_writes_per_start": _writes(report.scales),
        "leaked": report.leaked,
        "lost": report.lost,
        "scale": [asdict(scale) for scale in report.scales],
        "churn": [asdict(churn) for churn in report.churns],
        "outage": asdict(outage) if outage else None,
        "failures": report.failures,
    }


def _writes(scales: Iterable[Scale]) -> dict[str, float]:
    """Entries written on all other nodes together for each started pod, by mode."""
    found = {}
    for scale in scales:
        found[scale.mode] = scale.writes_per_start
        found["address_filter"] = scale.address_filter_per_start
        if scale.mode == "overlay":
            found["overlay_without_egress_policy"] = scale.writes_per_start_unasked
    return found


def _spread(values: Iterable[float | None]) -> dict[str, float] | None:
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return {
        "p50": round(median(known), 3),
        "max": round(known[-1], 3),
        "count": len(known),
    }


def tables(report: Report) -> list[Table]:
    """Everything in detail, in the order of the trials."""
    found = [truth_table(report.truth)] if report.truth else []
    found += [starts_table(scale) for scale in report.scales[:1]]
    found += [cost_table(report.scales)] if report.scales else []
    found += [churn_table(report.churns)] if report.churns else []
    return found


def truth_table(truth: Truth) -> Table:
    """Rows speak, columns listen; a cell names the ports that let the row in."""
    destinations = sorted({destination for _, destination in truth.cells})
    table = Table(title="who may speak to whom (ports that answered)", show_lines=False)
    table.add_column("from \\ to", no_wrap=True)
    for destination in destinations:
        table.add_column(destination.replace("/", "/\n"))
    for source in sorted({source for source, _ in truth.cells}):
        row = []
        for destination in destinations:
            ports = truth.cells.get((source, destination), {})
            # A port that let only some pods of the workload through is marked.
            open_ports = [
                port if verdicts == {True} else f"{port}(some)"
                for port, verdicts in sorted(ports.items())
                if True in verdicts
            ]
            row.append(" ".join(open_ports) if open_ports else ("·" if ports else ""))
        table.add_row(source, *row)
    return table


def starts_table(scale: Scale) -> Table:
    table = Table(title=f"pods started ({scale.mode}): milliseconds, and entries written elsewhere")
    for name in ("pod", "node", "identity resolved", "from", "first packet", "pod up"):
        table.add_column(name, justify="right" if name not in ("pod", "node", "from") else "left")
    table.add_column("map entries on other nodes", justify="right")
    table.add_column("address filter's", justify="right")
    for start in scale.starts:
        table.add_row(
            start.pod,
            start.node,
            _ms(start.resolve_ms),
            "cache" if start.known else "bus",
            _ms(start.first_packet_ms),
            _ms(start.ready_ms),
            f"{start.map_writes:g}",
            str(start.address_filter_writes),
        )
    return table


def cost_table(scales: Iterable[Scale]) -> Table:
    table = Table(
        title="map entries written on a node for pods started on the others "
        "(a pod has two addresses, IPv4 and IPv6)"
    )
    for name in ("mode", "node", "starts elsewhere", "Tabard", "address filter", "because"):
        table.add_column(name, justify="left" if name in ("mode", "node", "because") else "right")
    for scale in scales:
        for cost in scale.costs:
            because = "; ".join(cost.because)
            if not because and cost.map_writes and scale.mode == "native":
                because = "native mode: every binding is in the ipcache"
            table.add_row(
                scale.mode,
                cost.node,
                str(cost.remote_starts),
                str(cost.map_writes),
                f"{cost.address_filter_writes} ({cost.address_filter_ms:.0f} ms)",
                because,
            )
    return table


def churn_table(churns: Iterable[Churn]) -> Table:
    table = Table(title="identities changed under traffic")
    names = ("change", "enforced in ms", "probes passed", "dropped", "passed after", "leaked")
    for name in names:
        table.add_column(name, justify="left" if name == "change" else "right")
    for churn in churns:
        table.add_row(
            churn.name,
            _ms(churn.enforced_ms),
            str(churn.passed),
            str(churn.dropped),
            str(churn.passed_after),
            str(churn.leaked),
        )
    return table


def summary(report: Report) -> list[str]:
    """One line for each claim, in plain words."""
    lines = []
    numbers = figures(report)
    if truth := report.truth:
        lines.append(
            f"{_mark(truth.disagree == 0)} probes={truth.probes} agree={truth.agree} "
            f"disagree={truth.disagree}"
        )
        lines += [
            f"    {d.source} → {d.destination} ({d.target}): "
            f"{'should pass, was dropped' if d.expected else 'should be dropped, passed'}"
            for d in truth.disagreements[:DISAGREEMENTS_SHOWN]
        ]
    for scale in report.scales:
        writes = f"{scale.writes_per_start:.2f} map entries per start on other nodes"
        if scale.mode == "overlay":
            writes += (
                f" ({scale.writes_per_start_unasked:.2f} where no egress policy names the pod)"
            )
        lines.append(
            f"{_mark(scale.leaked == 0)} {len(scale.starts)} pods started ({scale.mode}): "
            f"{writes}; an address filter writes {scale.address_filter_per_start:.2f}"
        )
    if numbers["resolve_ms"]:
        resolved, first = numbers["resolve_ms"], numbers["first_packet_ms"]
        lines.append(
            f"  identity resolved in {resolved['p50']} ms (median); first packet "
            + (f"{first['p50']:.0f} ms after the pod's start" if first else "not measured")
        )
    for churn in report.churns:
        good = churn.leaked == 0 and churn.passed_after == 0
        lines.append(
            f"{_mark(good)} {churn.name}: {churn.passed} passed while allowed, "
            f"{churn.passed_after} after, leaked={churn.leaked}"
        )
    if outage := report.outage:
        lines.append(
            f"{_mark(outage.lost == 0 and outage.leaked == 0)} {outage.killed} processes killed: "
            f"lost={outage.lost} of {outage.sent} datagrams in {outage.flows} flows, "
            f"leaked={outage.leaked} of {outage.denied_probes} denied probes, "
            f"control back in {outage.takeover_ms:.0f} ms"
        )
    lines += [f"✗ {failure}" for failure in report.failures]
    where = {"ebpf": "in the kernel", "memory": "BY THE MEMORY DATAPLANE, not by a kernel"}
    lines.append(
        f"{_mark(report.held)} {'all held' if report.held else 'NOT all held'}"
        f"{'' if report.outage else ', trial 4 left out'}; "
        f"judged {where.get(report.dataplane, report.dataplane)}; {report.seconds:.0f} s"
    )
    return lines


def _mark(good: bool) -> str:
    return "✓" if good else "✗"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if value < 100 else f"{value:.0f}"
