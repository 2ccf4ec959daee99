"""The agent's /metrics and /readyz, from the state of its parts."""

import asyncio

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from tabard.agent.dns.proxy import OUTCOMES
from tabard.agent.errors import Code
from tabard.agent.reconciler import Standing
from tabard.agent.service import Agent
from tabard.bus.port import Stream
from tabard.dataplane.maps import MAP_NAMES
from tabard.dataplane.port import DataplaneError, MapSizes
from tabard.process import bus
from tabard.process.metrics import counters, gauges

PARTS = (
    "bus",
    "holder",
    "ledger",
    "dataplane",
    "node",
    "drift",
    "checkpoint",
    "dns",
    "names",
    "staleness",
    "lost",
    "refused",
    "removed",
)
"""Of the agent, that can be in trouble (the keys of `Report.troubles`)."""


class AgentPage:
    """`sizes` are the most entries of each map."""

    def __init__(self, agent: Agent, sizes: MapSizes) -> None:
        self._agent = agent
        self._sizes = sizes

    def unready(self) -> str:
        agent = self._agent
        report, reconciler = agent.report, agent.reconciler
        reasons = [bus.lack(agent.bus, report.troubles.get("bus", ""))]
        if reconciler.standing is not Standing.IN_SYNC:
            reasons.append(
                f"not in sync with the ledger: {reconciler.standing.value}, read through "
                f"{reconciler.state.sequence}"
            )
        reasons += [text for part, text in report.troubles.items() if part != "bus"]
        return "; ".join(reason for reason in reasons if reason)

    async def families(self) -> list[Metric]:
        agent, sizes = self._agent, self._sizes
        report, reconciler, follower = agent.report, agent.reconciler, agent.follower
        figures = reconciler.figures
        # While a write is under way nobody knows what is there, but what is to be.
        held = reconciler.expected if reconciler.actual is None else reconciler.actual
        end = await bus.last_sequence(agent.bus, Stream.LEDGER)
        head = max(follower.head, end or 0)
        return [
            *bus.families("agent", agent.bus),
            GaugeMetricFamily(
                "tabard_agent_in_sync",
                "1 once it has read all that was in the ledger when it began to follow.",
                reconciler.standing is Standing.IN_SYNC,
            ),
            gauges(
                "tabard_agent_trouble",
                "1 while that part of the agent does not go on; the log and /readyz say why.",
                "part",
                {part: part in report.troubles for part in PARTS},
            ),
            GaugeMetricFamily(
                "tabard_agent_watermark_sequence",
                "Ledger sequence that this node enforces.",
                report.sequence,
            ),
            GaugeMetricFamily(
                "tabard_agent_read_sequence",
                "Ledger sequence that this node has read and checked.",
                reconciler.state.sequence,
            ),
            GaugeMetricFamily(
                "tabard_agent_lag_events",
                "The ledger's last known sequence less the watermark.",
                max(0, head - report.sequence),
            ),
            GaugeMetricFamily(
                "tabard_agent_stale",
                "1 while it has not known for too long that it enforces the ledger's head.",
                agent.freshness.is_stale,
            ),
            GaugeMetricFamily(
                "tabard_agent_known_age_seconds",
                "Since it last knew that it enforced the ledger's head, or since its start.",
                agent.freshness.age_s,
            ),
            CounterMetricFamily(
                "tabard_agent_events_total", "Ledger events read.", follower.events
            ),
            *figures.enforce_s.collect(),
            *figures.tick_s.collect(),
            CounterMetricFamily(
                "tabard_agent_tick_failures_total",
                "Ticks that did not bring the maps to the state; they are tried again.",
                figures.tick_failures,
            ),
            gauges(
                "tabard_agent_map_entries",
                "Entries that each map holds.",
                "map",
                {name: len(getattr(held, name)) for name in MAP_NAMES},
            ),
            gauges(
                "tabard_agent_map_entries_max",
                "Entries that each map has room for.",
                "map",
                {name: getattr(sizes, name) for name in MAP_NAMES},
            ),
            counters(
                "tabard_agent_map_writes_total",
                "Entries written or deleted in each map.",
                "map",
                dict(report.map_writes),
            ),
            counters(
                "tabard_agent_map_full_total",
                "Writes that a map refused because it was full.",
                "map",
                {name: report.full[name] for name in MAP_NAMES},
            ),
            GaugeMetricFamily(
                "tabard_agent_drift_entries",
                "Entries that differed from the ledger at the last check.",
                report.drift,
            ),
            GaugeMetricFamily(
                "tabard_agent_endpoints", "Pods that the maps let communicate.", report.endpoints
            ),
            GaugeMetricFamily(
                "tabard_agent_attached_pods",
                "Pods whose interface is guarded.",
                len(reconciler.attachments),
            ),
            *figures.attach_s.collect(),
            counters(
                "tabard_agent_attach_failures_total",
                "Attaches that the gate did not carry out.",
                "code",
                {code.value: figures.attach_failures[code.value] for code in Code},
            ),
            CounterMetricFamily(
                "tabard_agent_flows_lost_total",
                "Flow records dropped or not taken by the bus.",
                agent.flows.lost,
            ),
            counters(
                "tabard_agent_dns_messages_total",
                "DNS messages that came to the node's proxy.",
                "outcome",
                {outcome: agent.dns.messages[outcome] for outcome in OUTCOMES},
            ),
            *await self._verdicts(),
        ]

    async def _verdicts(self) -> list[Metric]:
        """Empty while the dataplane is not open, or busy for longer than a scrape waits."""
        reconciler = self._agent.reconciler
        try:
            async with asyncio.timeout(bus.ANSWER_S_MAX):
                counted = await reconciler.worker.call(reconciler.dataplane.counters)
        except (TimeoutError, DataplaneError):
            return []
        family = CounterMetricFamily(
            "tabard_agent_verdict_packets_total",
            "Packets judged, by direction and reason, since the maps were made.",
            labels=["direction", "reason"],
        )
        for (direction, reason), packets in sorted(counted.items()):
            family.add_metric([direction.name.lower(), reason.name.lower()], packets)
        return [family]
