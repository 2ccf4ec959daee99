"""A judged run as a page that needs nothing else: no network, no script, no other file. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from html import escape

from tabard.chaos.report.outcome import BEFORE, NANOSECONDS, Outcome
from tabard.chaos.report.style import STYLE
from tabard.chaos.report.timeline import clock, numbered, timeline
from tabard.invariants.verdict import Invariant, Verdict

MEANS: Mapping[Invariant, str] = {
    Invariant.ONE_NUMBER_ONE_SET: "At no time do two label sets hold one identity, or one two.",
    Invariant.NEVER_OPEN: "No packet passed that no policy state of its time would have allowed.",
    Invariant.ORDER: "Policy before identity before address before pod; removal in reverse.",
    Invariant.FENCED: "An allocator that lost its place appended nothing.",
    Invariant.EXACTLY_ONCE: "What was observed had its effect in the ledger once, not twice.",
    Invariant.SAFE_REUSE: "No number or address was given again while a node might take it for "
    "what it was.",
    Invariant.FOLD: "Each kernel held what the ledger compiles to, once all was healed.",
    Invariant.NOTHING_LOST: "All that was acknowledged, and all that was shown, is still there.",
    Invariant.DETERMINISTIC: "The same ledger gave the same state, whoever folded it.",
    Invariant.ENFORCEMENT_OUTLIVES_CONTROL: "With control down, kernels went on enforcing, and "
    "what was allowed went on passing.",
    Invariant.CONVERGENCE: "After each heal the cluster was as it should be, in bounded time.",
}
"""What each invariant says, for whoever has not read ARCHITECTURE."""

SHOWN = 6
"""How many of a checker's violations stand there unfolded."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What the page may load (Content-Security-Policy): nothing."""


def page(outcome: Outcome) -> str:
    """The whole of `index.html`."""
    title = (
        f"Tabard chaos: {'held' if outcome.held else 'did not hold'}, seed {outcome.record.seed}"
    )
    parts = [
        *_verdict(outcome),
        *_figures(outcome),
        *_failures(outcome),
        *_checkers(outcome),
        *_picture(outcome),
        *_scenarios(outcome),
        *_faults(outcome),
        *_again(outcome),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _verdict(outcome: Outcome) -> Iterator[str]:
    began = datetime.fromtimestamp(outcome.record.began // NANOSECONDS, UTC)
    yield (
        f'<p class="over">Tabard · chaos on real processes · seed {outcome.record.seed} · '
        f"{escape(outcome.record.mode)} mode · {began:%Y-%m-%d %H:%M} UTC</p>"
    )
    if outcome.held:
        yield '<header class="verdict held"><h1>Everything held.</h1>'
        lasted = clock(outcome.seconds)
        yield (
            f"<p>{len(outcome.verdicts)} checkers judged {lasted} minutes of faults on a real "
            "cluster, and found no violation.</p></header>"
        )
        return
    yield '<header class="verdict broken"><h1>Not everything held.</h1>'
    yield f"<p>{escape(reason(outcome))}</p></header>"


def reason(outcome: Outcome) -> str:
    """Why a run did not hold, in a sentence or a few."""
    broken = [verdict for verdict in outcome.verdicts if verdict.violations]
    blind = [verdict for verdict in outcome.verdicts if not verdict.judged]
    said = []
    if broken:
        names = ", ".join(verdict.invariant for verdict in broken)
        said.append(f"Violated: {names} ({outcome.violations:,} in all).")
    if blind:
        names = ", ".join(verdict.invariant for verdict in blind)
        said.append(f"Nothing was there to judge by, which proves nothing: {names}.")
    if outcome.missing:
        said.append(f"Not carried out: {', '.join(outcome.missing)}.")
    if outcome.record.failures:
        said.append("Something failed beside what was to fail; it is told below.")
    return " ".join(said) or "Nothing was judged."


def _figures(outcome: Outcome) -> Iterator[str]:
    record = outcome.record
    times = [row.converge_s for row in outcome.rows() if row.converge_s is not None]
    shown = (
        ("scenarios", f"{len(numbered(outcome)):,}"),
        ("faults injected", f"{len(record.injected):,}"),
        ("events acknowledged", f"{len(record.acknowledged):,}"),
        ("packets judged", f"{len(record.packets):,}"),
        ("violations", f"{outcome.violations:,}"),
        ("longest to converge", f"{max(times):.1f} s" if times else "–"),
    )
    yield '<dl class="figures">'
    for name, value in shown:
        yield f"<div><dt>{name}</dt><dd>{value}</dd></div>"
    yield "</dl>"


def _failures(outcome: Outcome) -> Iterator[str]:
    if not outcome.record.failures and not outcome.missing:
        return
    yield '<h2>What kept the run from proving anything</h2><div class="told"><ol>'
    for failure in outcome.record.failures:
        yield f"<li>{escape(failure)}</li>"
    for name in outcome.missing:
        yield f"<li>scenario {escape(name)} was not carried out</li>"
    yield "</ol></div>"


def _checkers(outcome: Outcome) -> Iterator[str]:
    yield "<h2>Checkers</h2>"
    yield (
        "<p>Each holds one invariant against the ledger, the packets and what nodes said, with a "
        "model of its own. A checker that had nothing to judge is no pass.</p>"
    )
    yield (
        '<table class="checkers"><thead><tr><th></th><th>invariant</th><th>what it says</th>'
        '<th class="right">judged</th><th></th><th class="right">violations</th></tr></thead>'
        "<tbody>"
    )
    for verdict in outcome.verdicts:
        mark = ("good", "✓ held") if verdict.held else ("bad", "✗ failed")
        note = f'<div class="quiet small">{escape(verdict.note)}</div>' if verdict.note else ""
        yield (
            f'<tr><td class="mark {mark[0]}">{mark[1]}</td>'
            f"<td><code>{escape(verdict.invariant)}</code></td>"
            f"<td>{escape(MEANS[verdict.invariant])}{note}</td>"
            f'<td class="right">{verdict.judged:,}</td>'
            f'<td class="quiet">{escape(verdict.unit)}</td>'
            f'<td class="right">{verdict.violations:,}</td></tr>'
        )
        yield _told(outcome, verdict)
    yield "</tbody></table>"


def _told(outcome: Outcome, verdict: Verdict) -> str:
    """The violations that a checker tells, as a row of the table; all but some are folded."""
    if not verdict.told:
        return ""
    items = [
        f"<li>{f'<time>{outcome.second(each.at):.3f} s</time>' if each.at else ''}"
        f"{escape(each.what)}</li>"
        for each in verdict.told
    ]
    shown, folded = items[:SHOWN], items[SHOWN:]
    body = f"<ol>{''.join(shown)}</ol>"
    if folded:
        body += (
            f"<details><summary>{len(folded)} more</summary>"
            f'<ol start="{SHOWN + 1}">{"".join(folded)}</ol></details>'
        )
    if untold := verdict.violations - len(items):
        body += f"<p>{untold:,} more are counted and not told.</p>"
    return f'<tr class="telling"><td></td><td colspan="5"><div class="told">{body}</div></td></tr>'


def _picture(outcome: Outcome) -> Iterator[str]:
    yield "<h2>What happened when</h2>"
    yield (
        "<p>Numbers are the scenarios of the table below. Heights grow with the square root, so "
        "that small values show. Point at a band for what it is.</p>"
    )
    yield f'<div class="picture">{timeline(outcome)}</div>'
    yield '<ul class="legend">'
    for colour, name in (
        ("fault", "fault, from injection to heal"),
        ("mending", "until the cluster had converged"),
        ("lag", "events that a node was behind"),
        ("passed", "probes that passed"),
        ("denied", "probes that did not pass"),
        ("bad", "violation"),
    ):
        yield f'<li><i style="background: var(--{colour})"></i>{name}</li>'
    yield "</ul>"


def _scenarios(outcome: Outcome) -> Iterator[str]:
    numbers = numbered(outcome)
    yield "<h2>Scenarios</h2>"
    heads = ("#", "scenario", "faults", "acknowledged", "packets", "violations", "converged in")
    yield f"<table><thead><tr>{_heads(heads, 2)}</tr></thead><tbody>"
    rows = outcome.rows()
    for row in rows:
        name, line = f"<code>{escape(row.scenario)}</code>", outcome.lines.get(row.scenario, "")
        times = f' <span class="quiet">× {row.times}</span>' if row.times > 1 else ""
        if row.scenario == BEFORE:
            name, line = '<span class="quiet">before the first one</span>', ""
        described = f'<div class="quiet small">{escape(line)}</div>' if line else ""
        cells = (row.faults, row.acknowledged, row.packets, row.violations)
        took = "–" if row.converge_s is None else f"{row.converge_s:.1f} s"
        yield (
            f'<tr><td class="quiet">{numbers.get(row.scenario, "")}</td>'
            f"<td>{name}{times}{described}</td>"
            + "".join(f'<td class="right">{cell:,}</td>' for cell in cells)
            + f'<td class="right">{took}</td></tr>'
        )
    sums = (
        len(outcome.record.injected),
        len(outcome.record.acknowledged),
        len(outcome.record.packets),
        outcome.violations,
    )
    yield (
        '<tr class="sum"><td></td><td>all</td>'
        + "".join(f'<td class="right">{each:,}</td>' for each in sums)
        + "<td></td></tr></tbody></table>"
    )
    if sum(row.violations for row in rows) != outcome.violations:
        yield (
            '<p class="quiet small">Violations that have no time of their own, and those that are '
            "counted and not told, stand in the sum alone.</p>"
        )


def _faults(outcome: Outcome) -> Iterator[str]:
    yield "<h2>Faults</h2><details><summary>Each of them, what it hit and when</summary>"
    heads = ("scenario", "fault", "hit", "at", "for", "converged in")
    yield f"<table><thead><tr>{_heads(heads, 3)}</tr></thead><tbody>"
    for each in outcome.record.injected:
        lasted = (each.healed - each.began) / NANOSECONDS
        took = f"{max(each.converged - each.healed, 0) / NANOSECONDS:.1f} s"
        detail = f'<div class="quiet small">{escape(each.detail)}</div>' if each.detail else ""
        yield (
            f"<tr><td><code>{escape(each.scenario)}</code></td>"
            f"<td>{escape(each.fault)}{detail}</td><td><code>{escape(each.target)}</code></td>"
            f'<td class="right">{clock(outcome.second(each.began))}</td>'
            f'<td class="right">{lasted:.1f} s</td>'
            f'<td class="right">{took if each.converged else "did not"}</td></tr>'
        )
    yield "</tbody></table></details>"


def _again(outcome: Outcome) -> Iterator[str]:
    yield "<h2>Run it again</h2>"
    yield (
        "<p>The seed draws the same work and the same targets again. What real processes make of "
        "them differs a little each time; <code>tabard chaos simulate --seed N</code> replays "
        "exactly.</p>"
    )
    yield f'<code class="command">{escape(outcome.command)}</code>'
    yield "<h2>Made of</h2>"
    yield f'<dl class="pairs">{_pairs(sorted(outcome.record.versions.items()))}</dl>'
    yield "<footer>All figures of this page, and more, are in report.json beside it.</footer>"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(said)}</dd>" for name, said in pairs)


def _heads(names: Iterable[str], left: int) -> str:
    """Column heads; from the one at `left` on they stand at the right, as numbers do."""
    return "".join(
        f'<th class="right">{name}</th>' if at >= left else f"<th>{name}</th>"
        for at, name in enumerate(names)
    )
