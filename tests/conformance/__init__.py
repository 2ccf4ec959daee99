"""Runs other projects' cases for policies and says where Tabard's verdicts differ.

`suites` finds the cases of a directory, `declared` says which are left out, by tag, and why. Cases
made of flows come down to one form (`story`): `neutral`, `connections` (with `exposure` and
`ingresses`) and `required` read them. `cluster` is the one running engine that their steps are told
to; `planes` answer flows. What is stated of readers and analyses comes as rows: `tables`,
`examples` and `schemes`, whose `queries` about `configurations` the pure engine answers. `runner`
puts a case to a plane, and `report` says how it went. `python -m conformance DIR` with tests/ on
the path.
"""
