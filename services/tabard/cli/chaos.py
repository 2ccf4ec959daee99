"""`tabard chaos list` and `run`."""

from tabard.chaos.scenarios import SCENARIOS
from tabard.cli.printing import Output, show_table, show_value

COLUMNS = ("SCENARIO", "WHAT HAPPENS")
WIDE = ("SCENARIO", "MODES", "HELD S", "WHAT HAPPENS")


def show_scenarios(output: Output) -> None:
    match output:
        case Output.JSON | Output.YAML:
            items = [
                {
                    "name": each.name,
                    "line": each.line,
                    "modes": sorted(each.modes),
                    "hold_s": each.hold_s,
                }
                for each in SCENARIOS
            ]
            show_value({"items": items}, output)
        case Output.NAME:
            for each in SCENARIOS:
                print(each.name)
        case Output.TABLE:
            show_table(COLUMNS, ([each.name, each.line] for each in SCENARIOS))
        case Output.WIDE:
            show_table(
                WIDE,
                ([each.name, sorted(each.modes), each.hold_s, each.line] for each in SCENARIOS),
            )
