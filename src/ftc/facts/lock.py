"""The lock of a stack: every package with its hashes and what it needs; a recipe takes the closure of its features."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Condition = frozenset[str]
ALWAYS: Condition = frozenset()


class Edge(NamedTuple):
    """A dependency: the key of a package, the extras taken of it, and the marker under which it is needed."""

    to: str
    extras: tuple[str, ...]
    marker: str | None


class LockedPackage(NamedTuple):
    """One version of one package; `extras` are its optional dependencies."""

    name: str
    version: str
    hashes: tuple[str, ...]
    dependencies: tuple[Edge, ...]
    extras: Mapping[str, tuple[Edge, ...]]


class Lock(NamedTuple):
    """`packages` by key (`name==version`); `features` are sets of packages that a recipe can need."""

    packages: Mapping[str, LockedPackage]
    features: Mapping[str, tuple[Edge, ...]]


class LockedRequirement(NamedTuple):
    """One line of a requirements file."""

    name: str
    version: str
    hashes: tuple[str, ...]
    marker: str | None


def read_lock(text: str) -> Lock:
    """Returns the lock of a `lock.json`."""
    raw = json.loads(text)
    packages = {
        key: LockedPackage(
            name=key.partition("==")[0],
            version=key.partition("==")[2],
            hashes=tuple(entry["hashes"]),
            dependencies=_edges(entry["dependencies"]),
            extras={name: _edges(edges) for name, edges in entry.get("extras", {}).items()},
        )
        for key, entry in raw["packages"].items()
    }
    return Lock(packages=packages, features={n: _edges(e) for n, e in raw["features"].items()})


def _edges(raw: Sequence[Mapping[str, Any]]) -> tuple[Edge, ...]:
    return tuple(Edge(to=e["to"], extras=tuple(e.get("extras", ())), marker=e.get("marker")) for e in raw)


def closure(lock: Lock, features: Sequence[str]) -> tuple[LockedRequirement, ...]:
    """Returns all that the features need, sorted by name, each under the conditions on which it is reached."""
    reached: dict[str, set[Condition]] = {}
    pending = [(edge, ALWAYS) for feature in features for edge in lock.features[feature]]
    seen: set[tuple[str, tuple[str, ...], Condition]] = set()
    while pending:
        edge, condition = pending.pop()
        condition = condition | {edge.marker} if edge.marker else condition
        if (edge.to, edge.extras, condition) in seen:
            continue
        seen.add((edge.to, edge.extras, condition))
        reached.setdefault(edge.to, set()).add(condition)
        package = lock.packages[edge.to]
        onward = [*package.dependencies, *(e for extra in edge.extras for e in package.extras.get(extra, ()))]
        pending += [(e, condition) for e in onward]
    return tuple(_requirement(lock.packages[key], reached[key]) for key in sorted(reached))


def _requirement(package: LockedPackage, conditions: set[Condition]) -> LockedRequirement:
    return LockedRequirement(
        name=package.name, version=package.version, hashes=package.hashes, marker=_either(conditions)
    )


def _either(conditions: set[Condition]) -> str | None:
    """Returns the marker that holds where any condition does; a condition within another adds nothing."""
    least = [c for c in conditions if not any(other < c for other in conditions)]
    if ALWAYS in least:
        return None
    terms = sorted(" and ".join(f"({m})" if " or " in m else m for m in sorted(c)) for c in least)
    return terms[0] if len(terms) == 1 else " or ".join(f"({t})" for t in terms)


def requirements_text(requirements: Sequence[LockedRequirement]) -> str:
    """Returns pip's requirements format, with hashes."""
    return "".join(_lines(r) for r in requirements)


def _lines(requirement: LockedRequirement) -> str:
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    hashes = "".join(f" \\\n    --hash={h}" for h in requirement.hashes)
    return f"{requirement.name}=={requirement.version}{marker}{hashes}\n"
