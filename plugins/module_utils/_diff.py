# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The before and after of our own fields, with secrets masked (private to this collection)."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from . import _managed_fields as fields
from ._yaml import DUMPER, yaml

# Of this process only: a hash that was the same in every run would let short passwords be guessed from a log.
_SALT = os.urandom(16)
_SECRET_FIELDS = ("data", "stringData")


def mask(obj: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which the values of a Secret are masked; equal values get equal masks within a run."""
    result = dict(obj)
    if obj.get("kind") == "Secret":
        for name in _SECRET_FIELDS:
            if isinstance(result.get(name), Mapping):
                result[name] = {key: masked(value) for key, value in result[name].items()}
    return result


def masked(value: Any) -> str:
    digest = hmac.new(_SALT, json.dumps(value, sort_keys=True, default=str).encode(), hashlib.sha256)
    return f"<masked {digest.hexdigest()[:8]}>"


def scrub(text: str, obj: Mapping[str, Any]) -> str:
    """Take the values of a Secret out of a message that somebody else wrote about it."""
    if obj.get("kind") != "Secret":
        return text
    for name in _SECRET_FIELDS:
        for value in (obj.get(name) or {}).values():
            if isinstance(value, str) and len(value) > 3:
                text = text.replace(value, "<masked>")
    return text


def restrict(live: Any, shape: Any) -> Any:
    """The part of ``live`` that ``shape`` speaks about."""
    if isinstance(shape, Mapping) and isinstance(live, Mapping):
        return {key: restrict(live[key], value) for key, value in shape.items() if key in live}
    if isinstance(shape, list) and isinstance(live, list) and all(isinstance(item, Mapping) for item in shape + live):
        return [_restrict_item(item, shape, place) for place, item in enumerate(live)]
    return live


def _restrict_item(item: Mapping[str, Any], shape: list[Any], place: int) -> Any:
    for name in ("name", "key", "containerPort", "port", "mountPath", "topologyKey"):
        for candidate in shape:
            if name in item and candidate.get(name) == item[name]:
                return restrict(item, candidate)
    return restrict(item, shape[place]) if place < len(shape) else dict(item)


def ours(live: Mapping[str, Any] | None, config: Mapping[str, Any], manager: str) -> dict[str, Any]:
    """Of a live object: the fields that we apply, and those that we own but no longer apply."""
    if live is None:
        return {}
    result: dict[str, Any] = restrict(live, config)
    entry = fields.applied(live, manager)
    if entry is not None:
        gone = [path for path in fields.leaves(entry[1]) if not fields.has(config, path) and fields.has(live, path)]
        extra = fields.only(live, live, gone)
        result = _merge(result, {key: value for key, value in extra.items() if key not in ("apiVersion", "kind")})
    return result


def _merge(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        merged = dict(one)
        for key, value in other.items():
            merged[key] = _merge(one[key], value) if key in one else value
        return merged
    return one


def pair(title: str, source: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """One entry of Ansible's diff."""
    return {
        "before_header": f"{title} ({source})",
        "after_header": f"{title} ({source})",
        "before": dump(before),
        "after": dump(after),
    }


def dump(obj: Mapping[str, Any]) -> str:
    if not obj:
        return ""
    text: str = yaml.dump(mask(obj), Dumper=DUMPER, sort_keys=True, default_flow_style=False, width=120)
    return text


def dump_all(objects: Iterable[Mapping[str, Any]]) -> str:
    text: str = yaml.dump_all(list(objects), Dumper=DUMPER, sort_keys=False, default_flow_style=False, width=120)
    return text
