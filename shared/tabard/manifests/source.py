"""YAML and JSON text → documents whose every field knows its line.

Safe by construction: only plain JSON values come out, no tag can make anything else, and size,
depth and alias expansion are bounded before anything is built. Scalars mean what Kubernetes' own
reader (sigs.k8s.io/yaml) takes them for: dates and `12:30` stay text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tabard.manifests.errors import ManifestError, shown

TEXT_BYTES_MAX = 8 << 20
"""Largest file."""
DEPTH_MAX = 64
"""Deepest nesting of maps and lists; libyaml's composer recurses on the C stack."""
VALUES_MAX = 1_000_000
"""Most values in one file, aliases counted each time they are used."""

NOTHING: Mapping[str, Any] = {}

_TAG = "tag:yaml.org,2002:"
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_ESCAPE = re.compile(r"(?i)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\.")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[([^\]]+)\]")
_scalars = yaml.SafeLoader("")


@dataclass(frozen=True, slots=True)
class Document:
    """One object as plain maps, lists and scalars, and where it was written."""

    value: dict[str, Any]
    file: str
    node: yaml.Node

    @property
    def origin(self) -> str:
        """`file:line` of its first line."""
        return _at(self.file, self.node)

    def origin_of(self, path: str) -> str:
        """`file:line` of the field, or of its nearest ancestor that is there."""
        node = self.node
        for name, index in _STEP.findall(path):
            child = _child(node, name or index)
            if child is None:
                break
            node = child
        return _at(self.file, node)


def load(text: str, file: str) -> list[Document]:
    """The objects in `text`, which `file` names in messages; a List, also of one kind (PodList),
    gives its items.

    ManifestError for what is no YAML or JSON, a duplicate key, or anything beyond the bounds.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ManifestError("", "is not UTF-8", file) from error
    if size > TEXT_BYTES_MAX:
        raise ManifestError("", f"is larger than {TEXT_BYTES_MAX} bytes; split the file", file)
    if text.lstrip().startswith("{"):
        # JSON that is no YAML: indented by tabs, and characters in two escapes of 16 bits.
        text = _ESCAPE.sub(_one_character, text.replace("\t", " "))
    try:
        _check_depth(text, file)
        nodes = list(yaml.compose_all(text, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ManifestError("", f"is no YAML or JSON: {error.problem}", file + line) from error
    except yaml.YAMLError as error:  # a character that YAML does not have
        reason = str(error).splitlines()[0]
        raise ManifestError("", f"is no YAML or JSON: {reason}", file) from error
    builder = _Builder(file)
    return [document for node in nodes for document in _objects(builder, node)]


def _objects(
    builder: "_Builder", node: yaml.Node, inherited: Mapping[str, Any] = NOTHING
) -> Iterator[Document]:
    """The object at `node`, or those of a list; fields that it lacks are `inherited`."""
    value = builder.build(node)
    if value is None:  # an empty document, such as after a last `---`
        return
    if not isinstance(value, dict):
        raise ManifestError(
            "",
            f"is {shown(value)}; an object begins with apiVersion and kind",
            _at(builder.file, node),
        )
    value = {**inherited, **value}
    kind = str(value.get("kind"))
    if kind != "List" and not (kind.endswith("List") and "items" in value):
        yield Document(value, builder.file, node)
        return
    items = _child(node, "items")
    if not isinstance(items, yaml.SequenceNode):
        raise ManifestError("items", "must be a list of objects", _at(builder.file, node))
    if kind == "List":
        inherited = NOTHING
    else:  # the API server writes no kind at the items of a PodList
        inherited = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List")}
    for item in items.value:
        yield from _objects(builder, item, inherited)


def _one_character(escape: re.Match[str]) -> str:
    high, low = escape.groups()
    if high is None:
        return escape[0]
    return bytes.fromhex(high + low).decode("utf-16-be")


def _check_depth(text: str, file: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEPTH_MAX:
                raise ManifestError("", f"is nested deeper than {DEPTH_MAX}", _at(file, event))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Builder:
    """Nodes → plain values, with one budget for the whole file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._left = VALUES_MAX

    def build(self, node: yaml.Node, depth: int = 0) -> Any:
        self._left -= 1
        if self._left < 0 or depth > DEPTH_MAX:
            raise self._error(node, "its aliases unfold into too many values; write them out")
        match node:
            case yaml.ScalarNode():
                return self._scalar(node)
            case yaml.SequenceNode(tag="tag:yaml.org,2002:seq"):
                return [self.build(item, depth + 1) for item in node.value]
            case yaml.MappingNode(tag="tag:yaml.org,2002:map"):
                return self._mapping(node, depth)
        raise self._error(node, f"the tag {node.tag} is not read; write plain maps and lists")

    def _mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _TAG + "merge":
                raise self._error(key_node, "merge keys (<<) are not read; write the fields out")
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise self._error(key_node, f"the key {shown(key)} is no text; put it in quotes")
            if key in built:
                raise self._error(key_node, f"the key {key!r} is there twice; remove one of them")
            built[key] = self.build(value_node, depth + 1)
        return built

    def _scalar(self, node: yaml.ScalarNode) -> str | int | float | bool | None:
        kind = node.tag.removeprefix(_TAG)
        text: str = node.value
        try:
            match kind:
                case "str" | "timestamp" | "value":
                    return text
                case "int" | "float" if _BASE_60.fullmatch(text):
                    return text
                case "int":
                    number: int = _scalars.construct_yaml_int(node)
                    if not -(1 << 63) <= number < 1 << 63:
                        raise self._error(
                            node, f"{shown(text)} is beyond 64 bits; put it in quotes"
                        )
                    return number
                case "float":
                    real: float = _scalars.construct_yaml_float(node)
                    if not abs(real) < float("inf"):
                        raise self._error(
                            node, f"{shown(text)} is no JSON number; put it in quotes"
                        )
                    return real
                case "bool":
                    return bool(_scalars.construct_yaml_bool(node))
                case "null":
                    return None
        except (ValueError, LookupError) as error:  # `0x_`, `!!int x`, more digits than int() takes
            raise self._error(node, f"{shown(text)} is no {kind}; put it in quotes") from error
        raise self._error(node, f"the tag {node.tag} is not read; write a plain value")

    def _error(self, node: yaml.Node, reason: str) -> ManifestError:
        return ManifestError("", reason, _at(self.file, node))


def _at(file: str, part: yaml.Node | yaml.Event) -> str:
    assert part.start_mark is not None, "what comes from a text has a mark"
    return f"{file}:{part.start_mark.line + 1}"


def _child(node: yaml.Node, step: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        found = [value for key, value in node.value if key.value == step]
        return found[0] if found else None
    if isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        return node.value[int(step)]  # type: ignore[no-any-return]
    return None
