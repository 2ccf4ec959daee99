"""Runs other projects' cases for NetworkPolicy and says where Tabard's verdicts differ.

`suites` finds the cases of a directory and says which are left out, by declared tag; `neutral`,
`connections` and `required` read the three formats into one form (`story`); `cluster` is the one
running engine that a case's steps are told to; `planes` answer flows; `runner` puts a case to a
plane, and `report` says how it went. `python -m conformance DIR` with tests/ on the path.
"""
