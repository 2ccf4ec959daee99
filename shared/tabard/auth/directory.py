"""The auth directory: seeds, certificates and what servers and processes are told of them.

    book.json           who has which public key, which servers there are
    accounts.conf       for nats-server to include: accounts, public keys, permissions
    ca.pem              certificates of those whose word for a server counts
    keys/HOLDER.seed    secret, one for each holder: `agent.n1`, `operator`, …
    servers/NAME.pem    a server's certificate, and NAME.key, secret
    authority/          what vouches for servers, secret: needed to add or rotate alone
    next/HOLDER.seed    what takes its place when a rotation is finished

All files have mode 0600 in directories of mode 0700. Each is replaced at once and whole. A change
is begun where it does no harm if it is broken off, and doing it again carries it to its end.

A rotation has two steps. After the first, servers take the old and the new; after the second, the
new alone. In between everybody is given what is new.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Literal

from tabard.auth.book import Book, BookFault, Given, read, written
from tabard.auth.certificates import (
    About,
    CertificateFault,
    Pair,
    about,
    new_authority,
    new_server,
)
from tabard.auth.keys import Key, KeyFault, new_key, read_key
from tabard.auth.roles import Holder
from tabard.bus.config import Tls
from tabard.bus.server import Guard

RENEW_BEFORE = timedelta(days=30)
"""A server's certificate that expires sooner is made anew where servers are started."""


class AuthError(Exception):
    """An auth directory cannot be used, or a change cannot be made; says which, why, what next."""

    def __init__(self, message: str, next: str = "") -> None:
        super().__init__(message)
        self.next = next


@dataclass(frozen=True, slots=True)
class Directory:
    """An auth directory that is there."""

    path: Path
    book: Book

    def seed(self, who: Holder) -> Path:
        """The file with a holder's seed."""
        return self.path / "keys" / f"{who}.seed"

    @property
    def ca(self) -> Path:
        return self.path / "ca.pem"

    @property
    def accounts(self) -> Path:
        return self.path / "accounts.conf"

    def certificate(self, server: str) -> Path:
        return self.path / "servers" / f"{server}.pem"

    def certificate_key(self, server: str) -> Path:
        return self.path / "servers" / f"{server}.key"

    def guard(self, server: str) -> Guard:
        """What a nats-server of this name is configured with."""
        tls = Tls(self.certificate(server), self.certificate_key(server), self.ca)
        return Guard(tls, self.accounts)

    def fault(self, who: Holder, public: str) -> str:
        """What is wrong with a holder's seed file, or empty; one that was taken to another machine
        is not missed."""
        file = self.seed(who)
        if not file.exists():
            return ""
        try:
            held = read_key(file).public
        except KeyFault as error:
            return str(error)
        return "" if held == public else f"{file} holds another key, {held}"

    def about(self, server: str) -> About:
        """What a server's certificate says; AuthError if it cannot be read."""
        return self._about(self.certificate(server))

    def about_authority(self) -> About:
        return self._about(self.path / "authority" / "current.pem")

    def _about(self, file: Path) -> About:
        try:
            return about(file.read_bytes())
        except (OSError, CertificateFault) as error:
            raise AuthError(f"certificate {file} cannot be used: {error}") from error

    # Changes

    def add(self, holders: Iterable[Holder]) -> "Directory":
        """With keys for these holders; AuthError for one that has a key."""
        found = {}
        for who in holders:
            if who in self.book.keys:
                raise AuthError(
                    f"{who} has a key already, {self.seed(who)}", f"tabard auth rotate {who}"
                )
            found[who] = Given(self._give(self.seed(who)).public)
        return self._become(self.book.with_keys(found))

    def revoke(self, who: Holder) -> "Directory":
        """Without this holder: what it has counts no more once servers are told."""
        with _told():
            changed = self._become(self.book.without(who))
        for file in (self.seed(who), self._following(who)):
            file.unlink(missing_ok=True)
        return changed

    def add_servers(self, servers: Mapping[str, tuple[str, ...]], now: datetime) -> "Directory":
        """With certificates for these servers, in place of those that they had."""
        with _told():
            book = self.book.with_servers(servers)
        authority = self._authority("current")
        for name, hosts in servers.items():
            self._certify(authority, name, hosts, now)
        return self._become(book)

    def rotate(self, holders: Collection[Holder]) -> "Directory":
        """Begin to rotate the keys of those of `holders` for whom it is not begun: the old and the
        new count."""
        found = {}
        for who in holders:
            given = self._given(who)
            if given.following:
                continue
            found[who] = replace(given, following=self._give(self._following(who)).public)
        return self._become(self.book.with_keys(found))

    def finish(self, holders: Collection[Holder]) -> "Directory":
        """End the rotation of the keys of those of `holders` for whom one was begun."""
        found = {}
        for who in holders:
            given = self._given(who)
            if not given.following:
                continue
            with suppress(FileNotFoundError):  # it is in its place already
                self._following(who).replace(self.seed(who))
            if (held := _held(self.seed(who)).public) != given.following:
                raise AuthError(
                    f"{self.seed(who)} holds the key {held}, not the one that was to follow: its "
                    f"seed is lost; revoke {who} and add it anew",
                    f"tabard auth revoke {who}",
                )
            found[who] = Given(given.following)
        return self._become(self.book.with_keys(found))

    def rotate_tls(self, now: datetime) -> "Directory":
        """Begin to rotate the authority, unless it is begun: the word of both counts."""
        if self.book.authority_follows:
            return self
        following = new_authority(now)
        self._keep_authority("next", following)
        _replace(self.ca, self._authority("current").certificate + following.certificate)
        return self._become(replace(self.book, authority_follows=True))

    def finish_tls(self, now: datetime) -> "Directory":
        """End it: servers have certificates of the new authority, and its word alone counts."""
        if not self.book.authority_follows:
            return self
        following = self._authority("next")
        for name, hosts in self.book.servers.items():
            self._certify(following, name, hosts, now)
        self._keep_authority("current", following)
        _replace(self.ca, following.certificate)
        changed = self._become(replace(self.book, authority_follows=False))
        for file in self._authority_files("next"):
            file.unlink(missing_ok=True)
        return changed

    def brought_to(
        self,
        servers: Mapping[str, tuple[str, ...]],
        holders: Iterable[Holder],
        now: datetime,
    ) -> "Directory":
        """With all of these servers and holders, and no certificate that expires soon."""
        stale = {
            name: hosts
            for name, hosts in servers.items()
            if self.book.servers.get(name) != hosts or self.about(name).expires - now < RENEW_BEFORE
        }
        changed = self.add_servers(stale, now)
        return changed.add([who for who in holders if who not in changed.book.keys])

    # Files

    def _given(self, who: Holder) -> Given:
        with _told():
            return self.book.given(who)

    def _following(self, who: Holder) -> Path:
        return self.path / "next" / f"{who}.seed"

    def _give(self, file: Path) -> Key:
        key = new_key()
        _replace(file, key.seed.encode() + b"\n")
        return key

    def _certify(self, authority: Pair, name: str, hosts: tuple[str, ...], now: datetime) -> None:
        pair = new_server(authority, name, hosts, now)
        # A server that starts between the two is told that they do not belong together.
        _replace(self.certificate_key(name), pair.key)
        _replace(self.certificate(name), pair.certificate)

    def _authority_files(self, which: Literal["current", "next"]) -> tuple[Path, Path]:
        place = self.path / "authority"
        return place / f"{which}.pem", place / f"{which}.key"

    def _authority(self, which: Literal["current", "next"]) -> Pair:
        certificate, key = self._authority_files(which)
        try:
            return Pair(certificate.read_bytes(), key.read_bytes())
        except OSError as error:
            raise AuthError(
                f"the authority's {error.filename} cannot be read ({error.strerror}): without it "
                "no server can be vouched for; bring it back from where it is kept"
            ) from error

    def _keep_authority(self, which: Literal["current", "next"], pair: Pair) -> None:
        certificate, key = self._authority_files(which)
        _replace(key, pair.key)
        _replace(certificate, pair.certificate)

    def _become(self, book: Book) -> "Directory":
        """Write the book and what servers are told; in this order, so that a key that counts is
        never unknown here."""
        _replace(self.path / "book.json", written(book).encode())
        _replace(self.accounts, book.accounts().encode())
        return Directory(self.path, book)


def begin(
    path: Path,
    servers: Mapping[str, tuple[str, ...]],
    holders: Iterable[Holder],
    now: datetime,
) -> Directory:
    """Make an auth directory at `path`, which must not be there, or be empty."""
    if path.is_dir() and any(path.iterdir()):
        raise AuthError(f"{path} is there already, and not empty", f"tabard auth list --dir {path}")
    # Made beside it and put into place whole.
    draft = path.parent / f".{path.name}.{os.getpid()}"
    try:
        for name in ("", "keys", "servers", "authority", "next"):
            (draft / name).mkdir(mode=0o700, parents=True)
        made = Directory(draft, Book())
        authority = new_authority(now)
        made._keep_authority("current", authority)
        _replace(made.ca, authority.certificate)
        made.add_servers(servers, now).add(holders)
        draft.rename(path)
    except OSError as error:
        raise AuthError(f"{path} cannot be made: {error}") from error
    finally:
        rmtree(draft, ignore_errors=True)
    return opened(path)


def opened(path: Path) -> Directory:
    """The auth directory at `path`; AuthError if it is none, or others can read it."""
    try:
        mode = path.stat().st_mode & 0o777
        content = (path / "book.json").read_text()
    except OSError as error:
        raise AuthError(
            f"{path} is no auth directory ({error.strerror}: {error.filename})",
            f"tabard auth init {path}",
        ) from error
    if mode & 0o077:
        raise AuthError(f"{path} has mode {mode:04o}: others can read seeds", f"chmod 700 {path}")
    try:
        return Directory(path, read(content))
    except BookFault as error:
        raise AuthError(f"{path / 'book.json'} cannot be used: {error}") from error


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BookFault as error:
        raise AuthError(str(error)) from error


def _held(file: Path) -> Key:
    try:
        return read_key(file)
    except KeyFault as error:
        raise AuthError(str(error)) from error


def _replace(file: Path, content: bytes) -> None:
    """Put `content` in the place of what the file held, on disk when this returns."""
    draft = file.parent / f".{file.name}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)
