"""What an auth directory has given out: public keys of holders, and servers. No secrets. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tabard.auth.accounts import text
from tabard.auth.keys import is_public
from tabard.auth.roles import Holder, HolderFault, holder
from tabard.bus.config import Address


class BookFault(ValueError):
    """A text is no book, or a change is none that can be made to it."""


@dataclass(frozen=True, slots=True)
class Given:
    """A holder's public key and, while it is rotated, the one that comes after it."""

    key: str
    following: str = ""

    @property
    def valid(self) -> tuple[str, ...]:
        """The keys that servers take."""
        return (self.key, self.following) if self.following else (self.key,)


@dataclass(frozen=True, slots=True)
class Book:
    servers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Server → its hosts' names and addresses."""
    keys: Mapping[Holder, Given] = field(default_factory=dict)
    authority_follows: bool = False
    """Whether the authority is being rotated."""

    def accounts(self) -> str:
        """The file for servers to include."""
        return text({who: given.valid for who, given in self.keys.items()})

    def with_keys(self, keys: Mapping[Holder, Given]) -> "Book":
        return replace(self, keys={**self.keys, **keys})

    def without(self, who: Holder) -> "Book":
        """Without a holder; BookFault if there is none."""
        self.given(who)
        return replace(self, keys={each: of for each, of in self.keys.items() if each != who})

    def given(self, who: Holder) -> Given:
        """BookFault if there is no such holder."""
        try:
            return self.keys[who]
        except KeyError:
            raise BookFault(f"{who} has no key here; holders are {_told(self.keys)}") from None

    def with_servers(self, servers: Mapping[str, tuple[str, ...]]) -> "Book":
        """With these servers; BookFault for a name or host that is none."""
        for name, hosts in servers.items():
            if not hosts:
                raise BookFault(f"server {name!r} needs an address: NAME=ADDRESS")
            for each in (name, *hosts):
                try:
                    Address(each)
                except Exception as error:
                    raise BookFault(str(error)) from error
        return replace(self, servers={**self.servers, **servers})


def written(book: Book) -> str:
    """The book as JSON."""
    return (
        json.dumps(
            {
                "version": 1,
                "servers": {name: list(hosts) for name, hosts in sorted(book.servers.items())},
                "keys": {str(who): list(of.valid) for who, of in sorted(book.keys.items())},
                "authority_follows": book.authority_follows,
            },
            indent=1,
        )
        + "\n"
    )


def read(content: str) -> Book:
    """What `written` wrote; BookFault if it is something else."""
    try:
        document: dict[str, Any] = json.loads(content)
        if document["version"] != 1:
            raise BookFault(f"it is of version {document['version']}, of a newer release")
        keys = {}
        for name, valid in document["keys"].items():
            if not (1 <= len(valid) <= 2 and all(map(is_public, valid))):
                raise BookFault(f"the keys of {name} are no public keys of users")
            keys[holder(name)] = Given(*valid)
        servers = {name: tuple(hosts) for name, hosts in document["servers"].items()}
        return Book({}, keys, bool(document["authority_follows"])).with_servers(servers)
    except HolderFault as error:
        raise BookFault(str(error)) from error
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise BookFault(f"it is no book of keys ({error!r})") from error


def _told(holders: Iterable[Holder]) -> str:
    return ", ".join(map(str, sorted(holders))) or "none"
