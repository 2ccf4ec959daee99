"""How the page looks: at a screen, light or dark, and on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #1d1f24; --quiet: #63676f; --line: #dfddd6;
  --good: #1f7a4d; --good-wash: #e4f2ea; --bad: #b3261e; --bad-wash: #fbe6e4;
  --fault: #c9622c; --mending: #f0cba9; --whole: #1f7a4d; --phase: #dcd8ee; --phase-ink: #3d3570;
  --lag: #7a6bb8; --passed: #3f8fc4; --denied: #9aa0a8; --grid: #ebe8e1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --card: #1c1f25; --ink: #e8e6e1; --quiet: #9ba0a9; --line: #333740;
    --good: #6cc795; --good-wash: #173226; --bad: #ff8a80; --bad-wash: #3b1d1b;
    --fault: #e0834f; --mending: #6b4a33; --whole: #6cc795; --phase: #363152;
    --phase-ink: #cfc8f2; --lag: #a698e0; --passed: #62abdb; --denied: #717780; --grid: #262a31;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 ui-sans-serif, system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans",
    "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1200px; margin: 0 auto; padding: 40px 28px 64px; }
code, .mono {
  font-family: ui-monospace, "SF Mono", "Cascadia Mono", Consolas, "DejaVu Sans Mono", monospace;
  font-size: .88em;
}
.over {
  margin: 0 0 10px; color: var(--quiet); font-size: 13px; letter-spacing: .08em;
  text-transform: uppercase;
}
.verdict { border-left: 6px solid; padding: 2px 0 2px 22px; }
.verdict h1 { margin: 0; font-size: 42px; line-height: 1.12; font-weight: 680;
  letter-spacing: -.018em; }
.verdict p { margin: 8px 0 0; color: var(--quiet); max-width: 74ch; }
.held { border-color: var(--good); } .held h1 { color: var(--good); }
.broken { border-color: var(--bad); } .broken h1 { color: var(--bad); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 1px;
  margin: 30px 0 0; background: var(--line); border: 1px solid var(--line); border-radius: 10px;
  overflow: hidden; }
.figures div { background: var(--card); padding: 14px 18px 12px; }
.figures dt { color: var(--quiet); font-size: 13px; }
.figures dd { margin: 2px 0 0; font-size: 25px; font-weight: 620; letter-spacing: -.01em; }
h2 { margin: 48px 0 12px; font-size: 21px; font-weight: 650; letter-spacing: -.008em; }
h2 + p { margin: -6px 0 14px; color: var(--quiet); max-width: 78ch; }
table { width: 100%; border-collapse: collapse; font-size: 14.5px; }
th { text-align: left; font-weight: 600; color: var(--quiet); font-size: 13px;
  padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: bottom; }
td { padding: 8px 14px 8px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th.right, td.right { text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
.checkers td:nth-child(2) code { white-space: nowrap; }
.checkers td:nth-child(5) { min-width: 15ch; }
.checkers th:nth-child(3) { width: 48%; }
.checkers th:nth-child(4), .checkers td:nth-child(4) { padding-right: 6px; }
tr.sum td { font-weight: 650; border-bottom: 0; }
.quiet { color: var(--quiet); }
.small { font-size: 13.5px; }
.mark { font-weight: 650; white-space: nowrap; }
.mark.good { color: var(--good); } .mark.bad { color: var(--bad); }
.told { margin: 8px 0 2px; padding: 10px 14px; background: var(--bad-wash); border-radius: 8px; }
.told ol { margin: 6px 0 0; padding-left: 22px; }
.told li { margin: 3px 0; overflow-wrap: anywhere; }
.told > ol:first-child { margin-top: 0; }
.told details { margin-top: 6px; } .told p { margin: 6px 0 0; color: var(--quiet); }
tr.telling td { border-top: 0; padding-top: 0; }
.told time { color: var(--quiet); margin-right: 6px; }
summary { cursor: pointer; }
.picture { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px 10px 4px; overflow-x: auto; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 10px 2px 0; padding: 0;
  list-style: none; color: var(--quiet); font-size: 13.5px; }
.legend i { display: inline-block; width: 16px; height: 10px; border-radius: 2px;
  margin-right: 7px; }
.command { display: block; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 13px 16px; overflow-x: auto; white-space: pre; }
dl.pairs { display: grid; grid-template-columns: max-content 1fr; gap: 4px 22px; margin: 0; }
dl.pairs dt { color: var(--quiet); } dl.pairs dd { margin: 0; overflow-wrap: anywhere; }
svg.timeline { display: block; width: 100%; min-width: 820px; height: auto; }
svg.timeline text { font-size: 11.5px; fill: var(--ink); }
svg.timeline .end { text-anchor: end; }
svg.timeline .note, svg.timeline .tick { fill: var(--quiet); font-size: 10.5px; }
svg.timeline .tick, svg.timeline .number { text-anchor: middle; }
svg.timeline .number { fill: var(--phase-ink); font-size: 10px; font-weight: 600; }
svg.timeline .phase { fill: var(--phase); } svg.timeline .fault { fill: var(--fault); }
svg.timeline .mending { fill: var(--mending); } svg.timeline .lag { fill: var(--lag); }
svg.timeline .passed { fill: var(--passed); } svg.timeline .denied { fill: var(--denied); }
svg.timeline .violated { fill: var(--bad); }
svg.timeline .grid { stroke: var(--grid); } svg.timeline .wrong { stroke: var(--bad);
  stroke-dasharray: 2 3; }
svg.timeline .whole { stroke: var(--whole); stroke-width: 2; }
svg.timeline .foot, svg.timeline .axis { stroke: var(--line); }
footer { margin-top: 56px; color: var(--quiet); font-size: 13.5px; }
@media (max-width: 760px) {
  main { padding-left: 16px; padding-right: 16px; }
  table { display: block; overflow-x: auto; font-size: 13.5px; }
  th, td { padding-right: 10px; }
  .checkers td:nth-child(2) code { white-space: normal; }
  .checkers th:nth-child(3) { width: auto; } .checkers td:nth-child(5) { min-width: 0; }
}
@media print {
  @page { size: A4 landscape; margin: 12mm; }
  :root { color-scheme: light; --paper: #fff; --card: #fff; --ink: #111; --quiet: #555;
    --line: #ccc; --good: #1f7a4d; --bad: #b3261e; --fault: #c9622c; --mending: #f0cba9;
    --whole: #1f7a4d; --phase: #dcd8ee; --phase-ink: #3d3570; --lag: #7a6bb8; --passed: #3f8fc4;
    --denied: #9aa0a8; --grid: #e6e3dc; --bad-wash: #fff; }
  body { font-size: 12px; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  .verdict h1 { font-size: 27px; } .over { font-size: 10px; } h2 { font-size: 15px; }
  .figures { margin-top: 14px; grid-template-columns: repeat(6, 1fr); }
  .figures div { padding: 7px 12px; } .figures dt { font-size: 10px; }
  .figures dd { font-size: 17px; }
  table, th, .small, .legend { font-size: 10.5px; } td { padding: 4px 12px 4px 0; }
  tr, .picture, .figures, .told { break-inside: avoid; }
  h2 { margin-top: 20px; } h2, h2 + p { break-after: avoid; }
  h2 + p { max-width: none; }
  svg.timeline { min-width: 0; }
}
"""
