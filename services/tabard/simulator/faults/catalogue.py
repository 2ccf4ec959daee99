"""All faults by name."""

from collections.abc import Mapping

from tabard.simulator.faults import judging, leading, numbers, once, pods, watermarks, writing
from tabard.simulator.faults.planting import Fault

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for module in (leading, numbers, pods, once, watermarks, writing, judging)
    for fault in module.FAULTS
}
