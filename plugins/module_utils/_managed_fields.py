# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Field paths, and who owns which field of a live object (private to this collection).

A path is a tuple of steps: a string is a key, a tuple of (key, value) pairs picks the list item that has them.
Written as Kubernetes writes them in its conflicts: ``.spec.replicas``, ``.spec.containers[name="app"].image``;
a key with a dot in it is written ``["key"]``.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ._errors import PlatformError

Item = tuple[tuple[str, Any], ...]
Path = tuple[str | Item, ...]
_STEP = re.compile(r'\.(?P<key>[^.\[\]"]+)|\["(?P<quoted>[^"]+)"\]|\[(?P<item>[^\]"]+="?[^\]]*)\]')
_MISSING = object()


def parse(text: str) -> Path:
    steps: list[str | Item] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise PlatformError(
                f"Reading the field path '{text}'",
                f"it cannot be understood from '{text[position:]}' on",
                'Write it like .spec.replicas, .metadata.annotations["a.b/c"] or .spec.containers[name="app"].image.',
            )
        if match["item"]:
            pairs = (part.split("=", 1) for part in match["item"].split(","))
            steps.append(tuple((key.strip(), _scalar(value)) for key, value in pairs))
        else:
            steps.append(match["key"] or match["quoted"])
        position = match.end()
    if not steps:
        raise PlatformError(f"Reading the field path '{text}'", "it is empty", "Write it like .spec.replicas.")
    return tuple(steps)


def _scalar(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip()


def written(path: Path) -> str:
    """The path as the API server writes it."""
    parts = []
    for step in path:
        if isinstance(step, str):
            parts.append(f".{step}")
        else:
            parts.append("[" + ",".join(f"{key}={json.dumps(value)}" for key, value in step) + "]")
    return "".join(parts)


def _child(node: Any, step: str | Item) -> Any:
    if isinstance(step, str):
        return node.get(step, _MISSING) if isinstance(node, Mapping) else _MISSING
    if isinstance(node, list):
        for item in node:
            if isinstance(item, Mapping) and all(item.get(key, _MISSING) == value for key, value in step):
                return item
    return _MISSING


def get(obj: Any, path: Path) -> Any:
    """The value at the path, or None."""
    for step in path:
        obj = _child(obj, step)
        if obj is _MISSING:
            return None
    return obj


def has(obj: Any, path: Path) -> bool:
    for step in path:
        obj = _child(obj, step)
        if obj is _MISSING:
            return False
    return True


def without(obj: dict[str, Any], path: Path) -> dict[str, Any]:
    """A copy without the field, and without parents that held nothing else."""
    result = copy.deepcopy(obj)
    _remove(result, path)
    return result


def _remove(node: Any, path: Path) -> None:
    child = _child(node, path[0])
    if child is _MISSING:
        return
    if len(path) > 1:
        _remove(child, path[1:])
        if child not in ({}, []):
            return
    if isinstance(path[0], str):
        del node[path[0]]
    else:
        node.remove(child)


def only(obj: Mapping[str, Any], live: Any, paths: list[Path]) -> dict[str, Any]:
    """An object of the same name that has just these fields, with the values of ``live``."""
    meta = {key: obj["metadata"][key] for key in ("name", "namespace") if obj["metadata"].get(key)}
    result: dict[str, Any] = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta}
    for path in paths:
        if has(live, path):
            put(result, path, copy.deepcopy(get(live, path)))
    return result


def copied(obj: dict[str, Any], live: Any, path: Path) -> dict[str, Any]:
    """A copy that has the field as ``live`` has it."""
    result = copy.deepcopy(obj)
    put(result, path, copy.deepcopy(get(live, path)))
    return result


def put(node: Any, path: Path, value: Any) -> None:
    """Set the field, making what is missing on the way to it."""
    step, rest = path[0], path[1:]
    if isinstance(step, str):
        if not rest:
            node[step] = value
            return
        put(node.setdefault(step, {} if isinstance(rest[0], str) else []), rest, value)
        return
    child = _child(node, step)
    if child is _MISSING:
        child = dict(step)
        node.append(child)
    if rest:
        put(child, rest, value)
    elif isinstance(value, Mapping):
        child.update(value)


def entries(live: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(live["metadata"].get("managedFields") or [])


def applied(live: Mapping[str, Any], manager: str) -> tuple[str, dict[str, Any]] | None:
    """The API version and field set that this manager has applied."""
    for entry in entries(live):
        if entry["manager"] == manager and entry["operation"] == "Apply" and not entry.get("subresource"):
            return entry.get("apiVersion", ""), entry.get("fieldsV1") or {}
    return None


def _key_of(step: str | Item, fields: Mapping[str, Any]) -> str | None:
    if isinstance(step, str):
        return f"f:{step}"
    for key in fields:
        if key.startswith("k:"):
            names = json.loads(key[2:])
            if all(names.get(name) == value for name, value in step):
                return key
    return None


def owns(fields: Mapping[str, Any], path: Path) -> bool:
    """Whether a field set has the field, something inside it, or an atomic parent of it."""
    node: Mapping[str, Any] = fields
    for step in path:
        key = _key_of(step, node)
        if key is None or key not in node:
            return False
        node = node[key]
        if not node:
            return True
    return True


def owners(live: Mapping[str, Any], path: Path) -> set[str]:
    return {entry["manager"] for entry in entries(live) if owns(entry.get("fieldsV1") or {}, path)}


def leaves(fields: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """The paths of a field set that lead through keys and keyed items; sets and indices end at their list."""
    for key, node in fields.items():
        if key == ".":
            continue
        if key.startswith("f:"):
            step: str | Item = key[2:]
        elif key.startswith("k:"):
            step = tuple(sorted(json.loads(key[2:]).items()))
        else:
            yield path
            return
        if [name for name in node if name != "."]:
            yield from leaves(node, (*path, step))
        else:
            yield (*path, step)


def is_key(path: Path) -> bool:
    """Whether the path leads to a key of a list's item, which everybody has who has a field of the item."""
    return len(path) > 1 and not isinstance(path[-2], str) and path[-1] in dict(path[-2])


def proves(config: Mapping[str, Any], live: Mapping[str, Any], manager: str) -> bool:
    """Whether applying ``config`` could change nothing: we own just its fields, and they have its values.

    Every doubt (a normalised quantity, a list without keys, another API version) says no, and the server is asked.
    """
    wanted = {key: value for key, value in config.items() if key not in ("apiVersion", "kind", "metadata")}
    meta = {key: value for key, value in config["metadata"].items() if key not in ("name", "namespace")}
    if meta:
        wanted["metadata"] = meta
    entry = applied(live, manager)
    if not wanted:
        # Of an object that only has to exist nothing is recorded.
        return entry is None or not list(leaves(entry[1]))
    if entry is None or entry[0] != config["apiVersion"]:
        return False
    return _same(wanted, live, entry[1])


def _same(wanted: Any, live: Any, fields: Mapping[str, Any]) -> bool:
    keys = [key for key in fields if key != "."]
    if not keys:
        return bool(wanted == live)
    if isinstance(wanted, Mapping):
        return (
            isinstance(live, Mapping)
            and len(keys) == len(wanted)
            and all(
                f"f:{key}" in fields and key in live and _same(value, live[key], fields[f"f:{key}"])
                for key, value in wanted.items()
            )
        )
    return isinstance(wanted, list) and isinstance(live, list) and _same_items(wanted, live, keys, fields)


def _same_items(wanted: list[Any], live: list[Any], keys: list[str], fields: Mapping[str, Any]) -> bool:
    if len(keys) != len(wanted):
        return False
    if keys[0].startswith("v:"):
        ours = {json.dumps(json.loads(key[2:])) for key in keys}
        return {json.dumps(value) for value in wanted} == ours and [item for item in live if item in wanted] == wanted
    order: dict[int, int] = {}
    for key in keys:
        if not key.startswith("k:"):
            return False
        names = json.loads(key[2:])
        # A key that was left out has been defaulted (a port's protocol).
        found = [item for item in wanted if all(item.get(name, value) == value for name, value in names.items())]
        there = [item for item in live if all(item.get(name) == value for name, value in names.items())]
        if len(found) != 1 or len(there) != 1:
            return False
        defaulted = {f"f:{name}" for name in names if name not in found[0]}
        inner = {name: node for name, node in fields[key].items() if name not in defaulted}
        if not _same(found[0], there[0], inner):
            return False
        order[wanted.index(found[0])] = live.index(there[0])
    places = [order[place] for place in sorted(order)]
    return len(places) == len(wanted) and places == sorted(places)


def equal_in(one: Any, other: Any, fields: Mapping[str, Any]) -> bool:
    """Whether two states of an object agree in every field of the set."""
    keys = [key for key in fields if key != "."]
    if not keys:
        return bool(one == other)
    for key in keys:
        if key.startswith("f:"):
            left, right = _child(one, key[2:]), _child(other, key[2:])
        elif key.startswith("k:"):
            step = tuple(json.loads(key[2:]).items())
            left, right = _child(one, step), _child(other, step)
        else:
            # Members of a set carry no values of their own; of a list by index the whole counts.
            return bool(one == other)
        if (left is _MISSING) != (right is _MISSING) or (
            left is not _MISSING and not equal_in(left, right, fields[key])
        ):
            return False
    return True
