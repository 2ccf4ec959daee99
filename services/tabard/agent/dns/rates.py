"""How often each pod may have something done for it. Pure."""

from collections import OrderedDict

PODS_MAX = 8_192
"""Pods that are kept account of; whoever was seen longest ago starts anew."""


class Rates:
    """A bucket for each pod: `burst` at once, refilled with `per_s` a second."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Pod → how much was left, and when."""

    def take(self, pod: str, now: float) -> bool:
        """Whether there is one left at `now` (seconds); then it is taken."""
        left, at = self._left.pop(pod, (float(self._burst), now))
        left = min(float(self._burst), left + (now - at) * self._per_s)
        is_there = left >= 1
        self._left[pod] = (left - is_there, now)
        if len(self._left) > PODS_MAX:
            self._left.popitem(last=False)
        return is_there
