"""Probing without pause as one pod, each on a thread of its own, until told to stop."""

import threading
from collections.abc import Sequence

from tabard.demo.probe import Answer, Target
from tabard.demo.reach import Probe, Reach
from tabard.ledger.state import EndpointState

ANSWERS_MAX = 500_000
"""Most answers one hammer keeps; it stops there."""
PAUSE_S = 0.005
"""Between rounds: refusals come at once, and must not fill the machine."""


class _Prober:
    """A thread that is a pod; what goes wrong on it is raised by `stop`."""

    def __init__(self, reach: Reach, pod: EndpointState) -> None:
        self._reach = reach
        self._pod = pod
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            probe = self._reach.become(self._pod)
            while not self._stopping.is_set():
                self._round(probe)
                self._stopping.wait(PAUSE_S)
        except Exception as error:  # raised again by `stop`
            self._error = error

    def _round(self, probe: Probe) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        self._stopping.set()
        self._thread.join()
        if self._error is not None:
            raise self._error


class Hammer(_Prober):
    """Probes its targets round after round; `answers` is whole once `stop` returned."""

    def __init__(
        self, reach: Reach, pod: EndpointState, targets: Sequence[Target], deadline_s: float
    ) -> None:
        self.answers: list[Answer] = []
        self._targets = targets
        self._deadline_s = deadline_s
        super().__init__(reach, pod)

    def _round(self, probe: Probe) -> None:
        if len(self.answers) < ANSWERS_MAX:
            self.answers += probe(self._targets, self._deadline_s)

    def stop(self) -> list[Answer]:
        """End it; its answers. Blocks for one round at most."""
        self._end()
        return self.answers


class FirstPacket(_Prober):
    """Tries a growing list of targets until each answers for the first time.

    A round is a few milliseconds where a few milliseconds are measured; where an answer must never
    come, it is as long as an answer may take.
    """

    def __init__(self, reach: Reach, pod: EndpointState, round_s: float = 0.004) -> None:
        self.passed: dict[Target, Answer] = {}
        self.tries = 0
        self._round_s = round_s
        self._pending: dict[Target, None] = {}
        self._lock = threading.Lock()
        super().__init__(reach, pod)

    def watch(self, target: Target) -> None:
        with self._lock:
            self._pending[target] = None

    def _round(self, probe: Probe) -> None:
        with self._lock:
            pending = list(self._pending)
        for answer in probe(pending, self._round_s):
            self.tries += 1
            if answer.passed:
                self.passed[answer.target] = answer
                with self._lock:
                    del self._pending[answer.target]

    def stop(self) -> dict[Target, Answer]:
        """End it; the first answer of each target that answered."""
        self._end()
        return self.passed
