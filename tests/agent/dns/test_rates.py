from tabard.agent.dns.rates import PODS_MAX, Rates


def taken(rates: Rates, pod: str, now: float, tries: int) -> int:
    return sum(rates.take(pod, now) for _ in range(tries))


def test_a_pod_has_a_burst_and_then_its_rate_and_never_more_than_a_burst() -> None:
    rates = Rates(2, 5)
    assert taken(rates, "a", 0, 10) == 5
    assert taken(rates, "b", 0, 10) == 5, "another pod's is its own"
    assert taken(rates, "a", 0.4, 10) == 0
    assert taken(rates, "a", 0.5, 10) == 1
    assert taken(rates, "a", 1.5, 10) == 2
    assert taken(rates, "a", 100, 10) == 5


def test_at_the_bound_whoever_was_seen_longest_ago_starts_anew() -> None:
    rates = Rates(0, 1)
    for number in range(PODS_MAX):
        assert rates.take(str(number), 0)
    assert not rates.take("0", 0)
    assert rates.take("new", 0)
    assert rates.take("1", 0)
    assert not rates.take("0", 0)
