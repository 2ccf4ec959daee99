"""The command line `tabard`.

`app` declares commands and options and imports nothing heavy, so that `--help` is quick; a module
of each command's name does it. `views` and `selector` are pure (state in, rows out) and shared by
all that shows state; `printing` writes rows; `reach` finds the cluster and its bus.
"""
