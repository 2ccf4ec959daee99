"""np-guard's network-config-analyzer: schemes of configurations and queries (suites' README, 5).

A query's answer is a number. Where the expected file of a connectivity map or of a semantic
difference is there too, its lines are compared with what is allowed; a text that explains another
query's answer is not compared.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from conformance import maps, queries
from conformance.configurations import Configuration, Document, Pod, Topology, cuts_of
from conformance.manifests import TEMPLATES, objects, valid, workload
from conformance.story import CaseError, LeftOut, Row, Rows, why

EVERYTHING = "./**"
"""All files of the case."""
ABOUT_PODS = ("allCaptured",)
"""Queries in which Ingresses have no say, which the analyzer else takes for policies."""
PODS_MAX = 2
"""Pods that a workload's replicas come down to; all of them are alike."""


def reader(folder: Path, entry: Mapping[str, Any]) -> Callable[[], Rows]:
    return partial(_read, folder / entry["dir"], entry)


def _read(directory: Path, entry: Mapping[str, Any]) -> Rows:
    file = directory / entry["scheme"]
    try:
        scheme = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        reading = _Scheme(directory, scheme, tuple(entry.get("manifests") or ()))
        return tuple(row for query in entry["queries"] for row in reading.rows(query))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise CaseError(f"{file} cannot be read: {why(error)}") from error


class _Scheme:
    def __init__(
        self, directory: Path, scheme: Mapping[str, Any], manifests: Sequence[str]
    ) -> None:
        self._directory = directory
        self._scheme = scheme
        self._manifests = [PurePosixPath(text) for text in manifests]
        self._listed = {each["name"]: each for each in scheme["networkConfigList"]}
        self._made: dict[str, Configuration] = {}
        self._with_ingress: set[str] = set()

    def rows(self, query: Mapping[str, Any]) -> Iterator[Row]:
        """The number, and the lines of a map or a difference."""
        kind, arguments = query["type"], query["args"]
        probe = f"{query['name']}: {kind} of {', '.join(arguments)}"
        if not queries.is_known(kind):
            raise CaseError(f"{probe} is no query that is known")
        if kind != "connectivityMap" and query.get("expected") is None:
            yield Row(probe, _AGREES, _states_nothing)
        elif kind != "connectivityMap":

            def number() -> str:
                found = [self._get(name, is_about_pods=kind in ABOUT_PODS) for name in arguments]
                return str(queries.answer(kind, found))

            yield Row(probe, str(query["expected"]), number)
        expected = query.get("expectedOutput")
        if expected and kind == "connectivityMap":
            for name in arguments:
                differing = partial(self._map, expected, name)
                yield Row(f"{probe}, the map of {name}", _AGREES, differing)
        elif expected and kind == "semanticDiff":
            yield Row(f"{probe}, the connections", _AGREES, partial(self._changes, query))
        elif kind == "connectivityMap":
            yield Row(f"{probe}, no map", _AGREES, _states_nothing)

    def _map(self, expected: str, name: str) -> str:
        told = self._expected(expected)
        lines = told.get(name, told.get(""))
        if lines is None:
            raise CaseError(f"{expected} has no configuration {name}")
        configuration = self._get(name)
        cuts = cuts_of((configuration,), maps.boundaries(lines))
        listed = maps.expand(lines, configuration.topology, cuts)
        allowed = configuration.allowed(cuts)
        if maps.is_by_workload(lines):
            listed, allowed = (
                maps.by_workload(each, configuration.topology, with_itself=False)
                for each in (listed, allowed)
            )
        return _said(*maps.compare(listed, allowed))

    def _changes(self, query: Mapping[str, Any]) -> str:
        text = (self._directory / query["expectedOutput"]).read_text(encoding="utf-8")
        told = maps.differences(text)
        for names in combinations(query["args"], 2):
            one, other = map(self._get, names)
            said = self._change(one, other, told.get(names, told.get(("", ""), {})))
            if said != _AGREES:
                return f"{' and '.join(names)}: {said}"
        return _AGREES

    def _change(
        self, one: Configuration, other: Configuration, told: Mapping[str, Sequence[maps.Line]]
    ) -> str:
        lines = [line for each in told.values() for line in each]
        cuts = cuts_of((one, other), maps.boundaries(lines))
        found = queries.categories(one, other, cuts)
        tests = queries.domains(one, other)
        for heading in sorted(told.keys() | found.keys()):
            if heading not in tests:
                raise CaseError(f"{heading!r} is no heading of a difference")
            # A line's labels are those of the configuration that has its connections.
            having = one if heading.startswith(("Lost", "Removed")) else other
            listed = maps.expand(told.get(heading, ()), having.topology, cuts)
            listed = {pair: each for pair, each in listed.items() if tests[heading](pair)}
            changed = found.get(heading, {})
            if maps.is_by_workload(lines):
                listed, changed = (
                    maps.by_workload(each, having.topology, with_itself=True)
                    for each in (listed, changed)
                )
            said = maps.compare(listed, changed)
            if said[0] != said[1]:
                return f"{heading}: {_said(*said)}"
        return _AGREES

    def _expected(self, name: str) -> dict[str, list[maps.Line]]:
        text = (self._directory / name).read_text(encoding="utf-8")
        if name.endswith((".yaml", ".yml", ".json")):
            return maps.listed(yaml.load(text, Loader=yaml.CSafeLoader))
        return maps.sections(text)

    def _get(self, name: str, *, is_about_pods: bool = False) -> Configuration:
        """A configuration, or with `/` one policy of it."""
        whole, _, policy = name.partition("/")
        if whole not in self._made:
            self._made[whole] = self._make(self._listed[whole])
        if whole in self._with_ingress and not policy and not is_about_pods:
            raise LeftOut("Ingress as a policy")
        return self._made[whole].only(policy) if policy else self._made[whole]

    def _make(self, given: Mapping[str, Any]) -> Configuration:
        resources = self._files(given.get("resourceList"))
        everything = [each for file in resources for each in _objects(file)]
        pods, namespaces = (self._files(given.get(key)) for key in ("podList", "namespaceList"))
        kinds = {each.get("kind") for each in everything}
        pods = pods or ([] if kinds & TEMPLATES.keys() else self._files(self._top("podList")))
        namespaces = namespaces or (
            [] if "Namespace" in kinds else self._files(self._top("namespaceList"))
        )
        topology = _topology([*resources, *namespaces], [*resources, *pods])
        policies = self._files(given.get("networkPolicyList")) or (
            [] if "networkPolicyList" in given else resources
        )
        documents = [each for file in policies for each in _objects(file)]
        if any(each.get("kind") in ("Ingress", "Gateway") for each in documents):
            self._with_ingress.add(given["name"])
        taken = [valid(each) for each in documents if each.get("kind") == "NetworkPolicy"]
        return Configuration(given["name"], topology, taken)

    def _top(self, key: str) -> Any:
        return self._scheme.get(key) or self._scheme.get("resourceList")

    def _files(self, given: Any) -> list[Path]:
        """The files that a scheme's paths mean, where the suite keeps them."""
        paths = [given] if isinstance(given, str) else list(given or ())
        return [file for path in paths if path for file in self._found(str(path))]

    def _found(self, path: str) -> list[Path]:
        """A path leads to a file of the case, to one beneath `up/`, or to a shared one."""
        if path == EVERYTHING:
            return [self._directory / each for each in self._manifests]
        wanted = [part for part in PurePosixPath(path).parts if part not in (".", "..")]
        is_folder = not PurePosixPath(path).suffix
        found = [
            each
            for each in self._manifests
            if _ends_with(each, wanted) or (is_folder and each.parts[-2:-1] == (wanted[-1],))
        ]
        if not found:
            raise CaseError(f"the case has no file {path}")
        return [self._directory / each for each in found[: None if is_folder else 1]]


_AGREES = "the listed connections"


def _said(expected: str, found: str) -> str:
    return _AGREES if expected == found else f"listed {expected}; found {found}"


def _states_nothing() -> str:
    raise LeftOut("no expectation")


def _ends_with(path: PurePosixPath, wanted: Sequence[str]) -> bool:
    """The last two parts count, or the one that there is; a shared file keeps its folder's name."""
    own = [part for part in path.parts if part not in ("..", "up", "shared")]
    length = min(len(own), len(wanted), 2)
    return own[-length:] == list(wanted[-length:]) and own[-1:] == list(wanted[-1:])


def _objects(file: Path) -> Iterator[Document]:
    for value, _ in objects(file):
        yield value


def _topology(namespaces: Sequence[Path], pods: Sequence[Path]) -> Topology:
    found = Topology()
    for file in dict.fromkeys(namespaces):
        for each in _objects(file):
            if each.get("kind") == "Namespace":
                metadata = each.get("metadata") or {}
                found.namespaces[metadata["name"]] = metadata.get("labels") or {}
    for file in dict.fromkeys(pods):
        for each in _objects(file):
            if each.get("kind") in TEMPLATES:
                for pod in _pods(each):
                    found.pods[pod.name] = pod
    return found


def _pods(document: Document) -> Iterator[Pod]:
    kind, metadata = document["kind"], document.get("metadata") or {}
    shown, spec = workload(kind, dict(document), dict(metadata))
    namespace, _, rest = shown.partition("/")
    owner, _, owned = rest.rpartition("[")
    own = str(metadata.get("name") or metadata.get("generateName"))
    names = [own]
    if kind != "Pod":
        replicas = (document.get("spec") or {}).get("replicas", 1)
        names = [f"{own}-{number}" for number in range(1, min(replicas, PODS_MAX) + 1)]
    for number, name in enumerate(names):
        told = replace(spec, key=f"{spec.key}-{number}")
        yield Pod(f"{namespace}/{name}", owner, owned[:-1], namespace, told.labels, told)
