"""A judged run as JSON: `report.json`, and `tabard chaos run -o json`. Pure.

What each key means `tabard explain chaos run` says. Times are seconds since the run began, but for
`began`, which is Unix nanoseconds. `schema` goes up with a change that a reader must know of.
"""

from typing import Any

from tabard.chaos.report.outcome import Outcome

SCHEMA = 1


def document(outcome: Outcome) -> dict[str, Any]:
    record, second = outcome.record, outcome.second
    return {
        "schema": SCHEMA,
        "held": outcome.held,
        "seed": record.seed,
        "mode": record.mode,
        "minutes": record.minutes,
        "rate_per_s": record.rate_per_s,
        "command": outcome.command,
        "began": record.began,
        "seconds": round(outcome.seconds, 3),
        "versions": dict(sorted(record.versions.items())),
        "failures": list(record.failures),
        "not_carried_out": outcome.missing,
        "totals": totals(outcome),
        "verdicts": [
            {
                "invariant": verdict.invariant.value,
                "held": verdict.held,
                "judged": verdict.judged,
                "unit": verdict.unit,
                "violations": verdict.violations,
                "note": verdict.note,
                "told": [
                    {"what": each.what, "at": second(each.at) if each.at else None}
                    for each in verdict.told
                ],
            }
            for verdict in outcome.verdicts
        ],
        "scenarios": [
            {
                "name": row.scenario,
                "line": outcome.lines.get(row.scenario, ""),
                "times": row.times,
                "faults": row.faults,
                "acknowledged": row.acknowledged,
                "packets": row.packets,
                "violations": row.violations,
                "converge_s": None if row.converge_s is None else round(row.converge_s, 3),
            }
            for row in outcome.rows()
        ],
        "faults": [
            {
                "scenario": each.scenario,
                "fault": each.fault,
                "target": each.target,
                "detail": each.detail,
                "began": second(each.began),
                "healed": second(each.healed),
                "converged": second(each.converged) if each.converged else None,
            }
            for each in record.injected
        ],
        "lag": {
            node: [
                {"at": second(each.at), "events": each.events, "seconds": round(each.seconds, 3)}
                for each in lags
            ]
            for node, lags in outcome.lags.items()
        },
        "probes": [
            {"at": second(each.at), "passed": each.passed, "denied": each.denied}
            for each in outcome.traffic
        ],
    }


def totals(outcome: Outcome) -> dict[str, Any]:
    record = outcome.record
    passed = sum(packet.passed for packet in record.packets)
    times = [row.converge_s for row in outcome.rows() if row.converge_s is not None]
    return {
        "scenarios": len({phase.scenario for phase in record.phases}),
        "times": len(record.phases),
        "faults": len(record.injected),
        "acknowledged": len(record.acknowledged),
        "unanswered": record.unanswered,
        "packets": len(record.packets),
        "passed": passed,
        "denied": len(record.packets) - passed,
        "violations": outcome.violations,
        "converge_s_max": round(max(times), 3) if times else None,
    }
