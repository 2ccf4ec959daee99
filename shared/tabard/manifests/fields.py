"""A value at its field path, and the checks that the API server would make on it.

The rules are those of apimachinery/pkg/util/validation and kubernetes/pkg/apis/core/validation.
Null stands for an absent field, as in the API.
"""

import re
from dataclasses import dataclass
from typing import Any, NoReturn

from tabard.events.observed import Pairs
from tabard.identity.syntax import (
    DNS_LABEL,
    DNS_SUBDOMAIN,
    LABEL_VALUE,
    SUBDOMAIN_MAX,
    is_label_key,
)
from tabard.manifests.errors import ManifestError, shown

_NAME_RULE = (
    "use lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit "
    "(RFC 1123 subdomain, at most {} characters)"
)
_LABEL_RULE = (
    "use lower-case letters, digits and '-', beginning and ending with a letter or digit (RFC 1123 "
    "label, at most 63 characters)"
)


@dataclass(frozen=True, slots=True)
class Field:
    """`value` (None if absent) as it stands at `path`; each check raises ManifestError."""

    value: Any
    path: str = ""

    def __getitem__(self, name: str) -> "Field":
        """The field `name` of this mapping; of an absent mapping, an absent field."""
        path = f"{self.path}.{name}" if self.path else name
        return Field(self.mapping().get(name), path)

    @property
    def absent(self) -> bool:
        return self.value is None

    def fail(self, reason: str) -> NoReturn:
        raise ManifestError(self.path or "(document)", f"is {shown(self.value)}; {reason}")

    def mapping(self) -> dict[str, Any]:
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            self.fail("it must be a mapping of fields")
        return self.value

    def items(self) -> list["Field"]:
        if self.value is None:
            return []
        if not isinstance(self.value, list | tuple):
            self.fail("it must be a list (begin each item with '- ')")
        return [Field(item, f"{self.path}[{index}]") for index, item in enumerate(self.value)]

    def text(self, default: str | None = None) -> str:
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, str):
            self.fail("it must be text (put it in quotes)")
        return self.value

    def matching(self, pattern: re.Pattern[str], rule: str, length_max: int = SUBDOMAIN_MAX) -> str:
        text = self.text()
        if len(text) > length_max or not pattern.fullmatch(text):
            self.fail(rule)
        return text

    def integer(self, low: int, high: int, default: int | None = None) -> int:
        if self.value is None and default is not None:
            return default
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.fail(f"it must be a whole number from {low} to {high}, without quotes")
        if not low <= self.value <= high:
            self.fail(f"it must be {low} to {high}")
        return self.value

    def flag(self) -> bool:
        if self.value is None:
            return False
        if not isinstance(self.value, bool):
            self.fail("it must be true or false, without quotes")
        return self.value

    def name(self, length_max: int = SUBDOMAIN_MAX) -> str:
        """An object's name."""
        if self.value is None:
            self.fail("every object needs a name (generateName is not read)")
        return self.matching(DNS_SUBDOMAIN, _NAME_RULE.format(length_max), length_max)

    def namespace(self) -> str:
        return self.matching(DNS_LABEL, _LABEL_RULE)

    def labels(self) -> Pairs:
        """A label map as sorted pairs."""
        labels = []
        for key in self.mapping():
            check_label_key(self, key)
            value = Field(self.value[key], f"{self.path}[{key}]")
            labels.append((key, value.label_value()))
        return tuple(sorted(labels))

    def label_value(self) -> str:
        return self.matching(
            LABEL_VALUE,
            "a label value is empty or at most 63 letters, digits, '-', '_' and '.', with a letter "
            "or digit at both ends",
        )


def check_label_key(field: Field, key: str) -> None:
    """ManifestError at `field` if `key` is no label key."""
    if not is_label_key(key):
        raise ManifestError(
            field.path,
            f"has the label key {shown(key)}; a key is [prefix/]name: the name at most 63 letters, "
            "digits, '-', '_' and '.', with a letter or digit at both ends, the prefix a DNS name",
        )
