"""All checkers on one run."""

from collections.abc import Sequence

from tabard.chaos.judge import ledger
from tabard.chaos.judge.convergence import convergence
from tabard.chaos.judge.dumps import fold
from tabard.chaos.judge.evidence import Evidence
from tabard.chaos.judge.figures import lags, traffic
from tabard.chaos.judge.outliving import outlives_control
from tabard.chaos.judge.packets import never_open
from tabard.chaos.record import Record
from tabard.chaos.report.outcome import Outcome
from tabard.chaos.scenarios import Scenario


def judged(record: Record, evidence: Evidence, scenarios: Sequence[Scenario]) -> Outcome:
    """The run with the verdict of every checker; a ledger that cannot be read whole is among its
    failures."""
    if evidence.broken:
        record.failures.append(evidence.broken)
    spared = {each.name for each in scenarios if each.spares_packets}
    verdicts = [
        never_open(record, evidence),
        ledger.exactly_once(evidence),
        ledger.one_number_one_set(evidence),
        ledger.safe_reuse(record, evidence),
        fold(record),
        ledger.nothing_lost(record, evidence),
        ledger.fenced(record, evidence),
        ledger.deterministic(record, evidence),
        convergence(record),
    ]
    if any(each.scenario in spared for each in record.injected):
        verdicts.append(outlives_control(record, evidence, spared))
    return Outcome(
        record,
        tuple(verdicts),
        lags(record, evidence.ledger),
        traffic(record),
        {each.name: each.line for each in scenarios},
    )
