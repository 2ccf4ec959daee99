"""What the scheduler may choose, as values that can be written down and chosen again.

A choice names a process and an operation, never a place in a list, so that it means the same in a
history out of which other choices were left.
"""

from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """What is done in one step."""

    # To a pending operation of a process, named by `what` (as `append`, `publish STATUS`).
    GO = "go"
    """It is carried out, and its caller is told."""
    FAIL = "fail"
    """It is not carried out; its caller is told that the bus gave no answer (the disk is full)."""
    LOSE = "lose"
    """It is carried out, and its caller is told that the bus gave no answer."""
    LATE = "late"
    """Its caller is told that the bus gave no answer; it is carried out at a LAND, if ever."""
    LAND = "land"
    """An operation of a process that came too late is carried out."""
    STAGE = "stage"
    """`amount` stages of a dataplane's write are carried out, the rest waits."""
    SHORT = "short"
    """A tail delivers `amount` messages of several."""

    # To a process.
    RUN = "run"
    """Its pending operations go on, and those that follow from them, until it waits for time or
    for others, or has done RUN_OPERATIONS_MAX."""
    CRASH = "crash"
    """As by SIGKILL."""
    STOP = "stop"
    """As by SIGTERM: it ends what it is at, and says farewell."""
    REBOOT = "reboot"
    """A node loses power: its agent, its kernel's maps and its pods' interfaces are gone; its disk
    and its pods are there when it is started again."""
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    CUT = "cut"
    """It does not reach the bus: all that it asks fails, as `BusUnavailable`, with time."""
    MEND = "mend"
    SLOW = "slow"
    """Its questions, too, wait to be chosen."""
    QUICK = "quick"
    SKEW = "skew"
    """Its clock jumps by `amount` milliseconds."""
    FILL_DISK = "fill disk"
    """Its checkpoint cannot be written."""
    FREE_DISK = "free disk"
    DAMAGE = "damage"
    """Its checkpoint is cut, changed, or an older one: `what` says which."""

    # To the bus.
    FULL = "full"
    """Stream `what` takes no publishes (an append to LEDGER included)."""
    ROOMY = "roomy"
    FORGET = "forget"
    """The duplicate window is over: ids of OBSERVED that were published count no more."""
    TRIM = "trim"
    """An operator asks for a trim through the newest snapshot that all who speak have passed."""

    # To the world.
    TIME = "time"
    """Time goes on by `amount` milliseconds; what is due then happens in order."""
    WORK = "work"
    """An event of the workload, `what` in words."""
    PROBE = "probe"
    """A packet is sent: `what` says from where to where."""
    ARRIVE = "arrive"
    """A packet under way comes to its other end."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One step. `process` is empty where it is the bus's or the world's."""

    act: Act
    process: str = ""
    what: str = ""
    amount: int = 0

    def __str__(self) -> str:
        """One line that `read` takes back."""
        return "\t".join((self.act.value, self.process, self.what, str(self.amount)))


def read(line: str) -> Choice:
    """The choice on a line; ValueError if it holds none."""
    act, process, what, amount = line.rstrip("\n").split("\t")
    return Choice(Act(act), process, what, int(amount))
