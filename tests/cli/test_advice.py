import pytest

from tabard.cli import advice


@pytest.fixture(autouse=True)
def chosen() -> None:
    advice.forget()
    advice.keep("--cluster", "my own")


@pytest.mark.parametrize(
    ("command", "following"),
    [
        ("tabard status", "tabard status --cluster 'my own'"),
        ("tabard", "tabard --cluster 'my own'"),
        ("tabard down --cluster a", "tabard down --cluster a"),
        ("tabard up --name a", "tabard up --name a"),
        ("tabard demo", "tabard demo"),
        ("mend the manifests", "mend the manifests"),
    ],
)
def test_a_command_keeps_the_cluster_unless_it_names_one(command: str, following: str) -> None:
    assert advice.following(command) == following


@pytest.mark.parametrize(
    ("command", "following"),
    [
        ("tabard get pods", "tabard get pods --at -5m --cluster 'my own'"),
        ("tabard describe pod a/b --at 7", "tabard describe pod a/b --at 7 --cluster 'my own'"),
        ("tabard status", "tabard status --cluster 'my own'"),
    ],
)
def test_what_looks_for_something_of_the_past_looks_then(command: str, following: str) -> None:
    advice.keep_moment("-5m")
    assert advice.following(command) == following


def test_nothing_is_kept_of_the_command_before() -> None:
    advice.keep_moment("7")
    advice.forget()
    assert advice.following("tabard status") == "tabard status"
    assert advice.following("tabard get pods") == "tabard get pods"
