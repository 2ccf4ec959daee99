import pytest

from tabard.cli.selector import SelectorError, parse

WEB = {"app": "web", "tier": "front", "app.kubernetes.io/name": "web"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app=web",
        "app==web",
        "app != db",
        "app",
        "!zone",
        "zone!=a",
        "app in (web, db),tier notin (back)",
        "zone notin (a)",
        "app.kubernetes.io/name=web , tier",
    ],
)
def test_a_selector_takes_what_it_says(text: str) -> None:
    assert parse(text)(WEB)


@pytest.mark.parametrize(
    "text", ["app=db", "!app", "zone", "app in (db)", "tier notin (front)", "app=web,tier=back"]
)
def test_a_selector_leaves_what_it_does_not_say(text: str) -> None:
    assert not parse(text)(WEB)


@pytest.mark.parametrize("text", ["app=web tier", "=web", "app in web", "app=web,", ",app", "a b"])
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(SelectorError):
        parse(text)
