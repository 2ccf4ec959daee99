import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from guards import HOLDERS, OTHER, directory
from tabard.auth.book import BookFault, read
from tabard.auth.directory import RENEW_BEFORE, AuthError, Directory, begin, opened
from tabard.auth.keys import new_key, read_key
from tabard.auth.roles import holder

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
SEED = re.compile(r"SU[A-Z2-7]{56}")
N1, SOURCE = holder("agent.n1"), holder("source")


@pytest.fixture
def auth(tmp_path: Path) -> Directory:
    return directory(tmp_path / "auth", NOW)


def keys_for_servers(auth: Directory, name: str) -> int:
    """How many keys of a holder the servers are told."""
    return auth.accounts.read_text().count(f"# {name}\n")


def test_each_holder_has_a_key_of_its_own_and_none_is_told_to_servers(auth: Directory) -> None:
    publics = {read_key(auth.seed(who)).public for who in (*HOLDERS, OTHER)}
    assert len(publics) == len(HOLDERS) + 1
    told = auth.accounts.read_text()
    assert all(f"nkey: {public}" in told for public in publics)
    for file in (auth.accounts, auth.path / "book.json", auth.ca):
        content = file.read_text()
        assert not SEED.search(content)
        assert "PRIVATE" not in content


def test_only_its_owner_can_read_any_of_it(auth: Directory) -> None:
    auth.rotate(auth.book.keys).rotate_tls(NOW)
    for path in (auth.path, *auth.path.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_what_was_made_is_found_again(auth: Directory) -> None:
    assert opened(auth.path) == auth


def test_nothing_is_made_in_a_place_that_is_taken(auth: Directory) -> None:
    before = {path: path.read_bytes() for path in auth.path.rglob("*") if path.is_file()}
    with pytest.raises(AuthError, match="is there already, and not empty"):
        begin(auth.path, {}, [], NOW)
    assert {path: path.read_bytes() for path in auth.path.rglob("*") if path.is_file()} == before
    assert [path.name for path in auth.path.parent.iterdir()] == ["auth"]


def test_of_a_failed_beginning_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(AuthError, match="needs an address"):
        begin(tmp_path / "auth", {"nats": ()}, [], NOW)
    with pytest.raises(AuthError, match="'a b' is neither"):
        begin(tmp_path / "auth", {"nats": ("a b",)}, [], NOW)
    with pytest.raises(AuthError, match=r"'\.\./x' is neither"):
        begin(tmp_path / "auth", {"../x": ("a",)}, [], NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_others_can_read_is_refused(auth: Directory) -> None:
    auth.path.chmod(0o755)
    with pytest.raises(AuthError, match="mode 0755") as raised:
        opened(auth.path)
    assert raised.value.next == f"chmod 700 {auth.path}"


def test_a_holder_is_added_once_and_revoked(auth: Directory) -> None:
    alice = holder("operator.alice")
    auth = auth.add([alice])
    assert read_key(auth.seed(alice)).public == auth.book.keys[alice].key
    with pytest.raises(AuthError, match=r"operator.alice has a key already"):
        auth.add([alice])
    auth = auth.revoke(alice)
    assert not auth.seed(alice).exists()
    assert keys_for_servers(auth, "operator.alice") == 0
    with pytest.raises(AuthError, match=r"operator.alice has no key here; holders are admin"):
        auth.revoke(alice)


def test_a_rotated_key_is_valid_beside_the_old_one_until_the_end(auth: Directory) -> None:
    old = read_key(auth.seed(N1))
    auth = auth.rotate([N1])
    assert read_key(auth.seed(N1)) == old
    assert keys_for_servers(auth, "agent.n1") == 2
    assert keys_for_servers(auth, "source") == 1
    assert auth.rotate([N1]) == auth
    following = auth.book.keys[N1].following
    auth = auth.finish([N1, SOURCE])
    assert read_key(auth.seed(N1)).public == following != old.public
    assert keys_for_servers(auth, "agent.n1") == 1
    assert old.public not in auth.accounts.read_text()
    assert list((auth.path / "next").iterdir()) == []
    assert opened(auth.path) == auth


def test_an_end_that_was_broken_off_is_carried_through(auth: Directory) -> None:
    auth = auth.rotate([N1, SOURCE])
    # As after a kill between the seeds' replacement and the book's.
    (auth.path / "next" / "agent.n1.seed").replace(auth.seed(N1))
    ended = opened(auth.path).finish([N1, SOURCE])
    assert read_key(ended.seed(N1)).public == ended.book.keys[N1].key
    assert not any(given.following for given in ended.book.keys.values())


def test_a_seed_that_was_to_follow_and_is_lost_is_told(auth: Directory) -> None:
    auth = auth.rotate([N1])
    (auth.path / "next" / "agent.n1.seed").unlink()
    with pytest.raises(AuthError, match=r"revoke agent.n1 and add it anew"):
        auth.finish([N1])


def test_a_rotated_authority_counts_beside_the_old_one_until_the_end(auth: Directory) -> None:
    old = auth.ca.read_bytes()
    issuer = auth.about("nats").issuer
    auth = auth.rotate_tls(LATER)
    assert auth.ca.read_bytes().startswith(old)
    assert auth.ca.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    assert auth.about("nats").issuer == issuer
    assert auth.rotate_tls(LATER) == auth
    auth = auth.finish_tls(LATER)
    assert auth.ca.read_bytes().count(b"BEGIN CERTIFICATE") == 1
    assert old not in auth.ca.read_bytes()
    assert auth.about("nats").issuer == auth.about_authority().issuer != issuer
    assert {path.name for path in (auth.path / "authority").iterdir()} == {
        "current.pem",
        "current.key",
    }
    assert auth.finish_tls(LATER) == auth


def test_certificates_are_made_anew_where_they_expire_or_a_host_is_another(auth: Directory) -> None:
    first = auth.certificate("nats").read_bytes()
    same = auth.brought_to({"nats": ("127.0.0.1",)}, auth.book.keys, LATER)
    assert same.certificate("nats").read_bytes() == first
    soon = auth.about("nats").expires - RENEW_BEFORE + timedelta(seconds=1)
    renewed = auth.brought_to({"nats": ("127.0.0.1",)}, [], soon)
    assert renewed.about("nats").expires > auth.about("nats").expires - timedelta(seconds=1)
    assert renewed.certificate("nats").read_bytes() != first
    moved = auth.brought_to({"nats": ("10.0.0.1",)}, [holder("agent.n9")], NOW)
    assert moved.about("nats").names == ("10.0.0.1",)
    assert read_key(moved.seed(holder("agent.n9")))


def test_without_its_authority_no_server_is_added(auth: Directory) -> None:
    (auth.path / "authority" / "current.key").unlink()
    with pytest.raises(AuthError, match=r"current.key cannot be read.*no server can be vouched"):
        auth.add_servers({"b": ("a",)}, NOW)
    assert opened(auth.path) == auth


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "version 2, of a newer release"),
        ({"keys": {"king": [new_key().public]}}, "no role 'king'"),
        ({"keys": {"source": ["U } evil"]}}, "keys of source are no public keys"),
        ({"keys": {"source": [new_key().seed]}}, "keys of source are no public keys"),
        ({"keys": {"source": []}}, "keys of source are no public keys"),
        ({"keys": {"agent.a b": [new_key().public]}}, "no node's name"),
        ({"servers": {"a": ['"']}}, "is neither"),
        ({"servers": 3}, "no book of keys"),
    ],
)
def test_a_book_that_is_none_is_refused(
    auth: Directory, change: dict[str, object], why: str
) -> None:
    book = json.loads((auth.path / "book.json").read_text())
    with pytest.raises(BookFault, match=why) as raised:
        read(json.dumps({**book, **change}))
    assert not SEED.search(str(raised.value))
    (auth.path / "book.json").write_text(json.dumps({**book, **change}))
    with pytest.raises(AuthError, match=f"{auth.path}/book.json cannot be used"):
        opened(auth.path)


def test_a_book_cut_anywhere_is_refused(auth: Directory) -> None:
    content = (auth.path / "book.json").read_text().strip()
    for end in range(0, len(content), 37):
        with pytest.raises(BookFault):
            read(content[:end])
