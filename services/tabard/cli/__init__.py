"""The command line `tabard`.

`app` declares commands and options and imports nothing heavy, so that `--help` is quick; a module
of each command's name does it. `views`, `tables` and `selector` are pure (state in, rows out) and
shared by all that shows state; `past` finds points of the ledger's history, `watching` follows it;
`printing` writes rows; `reach` finds the cluster and its bus. What is printed as JSON is declared
in `fields`, `judgements` and `authoring`, by command in `documents`.
"""
