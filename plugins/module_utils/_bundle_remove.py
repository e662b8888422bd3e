# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Removing a bundle: last things first, each wave gone before the next (private to this collection)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from . import _applyset as applysets
from ._bundle import Bundle, Report, applied_by_us
from ._bundle_object import shared
from ._bundle_order import Item, never_pruned, title, waves
from ._bundle_plan import MANAGER, Plan
from ._errors import PlatformError
from ._kube_client import UnknownKind

_POLL = 0.5


def absent(bundle: Bundle, timeout: float) -> Report:
    """Delete the bundle's objects and the members of its set, and wait until they are gone."""
    deadline = time.monotonic() + timeout
    try:
        doomed = _find(bundle)
        for wave in reversed(waves(doomed)):
            plans, errors = bundle.parallel(lambda item: _delete(bundle, item), wave)
            for plan in plans:
                bundle.report.add(plan.entry(), bundle.gone(plan.item))
            if errors:
                raise errors[0]
            if not bundle.options.check:
                _await_gone(bundle, wave, deadline)
        if bundle.options.name and bundle.set.exists and not bundle.options.check:
            _close(bundle)
    except PlatformError as exc:
        exc.data = {**bundle.report.result(), **exc.data}
        raise
    return bundle.report


def _find(bundle: Bundle) -> list[Item]:
    """What is there of what was written, and what the set has besides."""
    bundle.place()
    written, errors = bundle.parallel(lambda item: (item, _live(bundle, item)), bundle.items)
    if errors:
        raise errors[0]
    used = _used_by_others(bundle)
    doomed = []
    for item, live in written:
        if live is None:
            bundle.report.add(Plan(item, item.obj, {}, result="unchanged").entry())
        elif shared(item.obj) and (item.kind != "Namespace" or item.name in used):
            bundle.report.kept.append(title(live))
        else:
            doomed.append(Item(item.index, item.source, live))
    if not bundle.options.name:
        return doomed
    bundle.set = applysets.ApplySet.read(bundle.client, bundle.options.name)
    listed = {item.key for item in bundle.items}
    for key in sorted(bundle.set.kinds):
        for live in bundle.set.members(bundle.client, key) or []:
            item = Item(len(doomed), f"(member of {bundle.options.name})", live)
            if item.key in listed or not applied_by_us(live):
                continue
            if never_pruned(item.group, item.kind):
                bundle.report.kept.append(title(live))
                bundle.members[item.key] = live
            else:
                doomed.append(item)
    return doomed


def _used_by_others(bundle: Bundle) -> set[str]:
    """Namespaces in which other sets have members: with the namespace those would go."""
    path = f"/api/v1/namespaces/{applysets.NAMESPACE}/configmaps"
    used: set[str] = set()
    for parent in bundle.client.list_all(path, query={"labelSelector": applysets.ID}).get("items") or []:
        if parent["metadata"]["labels"][applysets.ID] != bundle.set.id:
            used |= applysets.namespaces_of(parent)
    return used


def _live(bundle: Bundle, item: Item) -> dict[str, Any] | None:
    try:
        return bundle.client.get_or_none(bundle.client.path_of(item.obj))
    except UnknownKind:
        return None


def _delete(bundle: Bundle, item: Item) -> Plan:
    start = time.monotonic()
    bundle.client.delete(
        bundle.client.path_of(item.obj),
        dry_run=bundle.options.check,
        uid=str(item.obj["metadata"].get("uid") or ""),
    )
    return Plan(item, item.obj, {}, item.obj, "deleted", seconds=time.monotonic() - start)


def _await_gone(bundle: Bundle, wave: list[Item], deadline: float) -> None:
    left = wave
    while True:
        found, errors = bundle.parallel(lambda item: (item, _live(bundle, item)), left)
        if errors:
            raise errors[0]
        # One of the same name with another uid has been made anew by somebody else.
        there = [
            (item, live)
            for item, live in found
            if live is not None and live["metadata"].get("uid") == item.obj["metadata"].get("uid")
        ]
        if not there:
            return
        if time.monotonic() > deadline:
            raise PlatformError(
                f"Waiting until {len(there)} deleted object{'s are' if len(there) > 1 else ' is'} gone",
                "; ".join(_holds(live) for _, live in there[:10]),
                "Find out why whoever set the finalizers does not remove them; do not remove them by hand.",
                again=True,
            )
        left = [item for item, _ in there]
        time.sleep(_POLL)


def _holds(live: Mapping[str, Any]) -> str:
    """What keeps an object from going."""
    finalizers = list(live["metadata"].get("finalizers") or []) + list((live.get("spec") or {}).get("finalizers") or [])
    reasons = [
        str(found.get("message"))
        for found in (live.get("status") or {}).get("conditions") or []
        if live["kind"] == "Namespace" and found.get("status") == "True" and found.get("message")
    ]
    held = f"is held by {', '.join(finalizers)}" if finalizers else "is still there"
    return f"{title(live)} {held}" + (f" ({'; '.join(reasons)})" if reasons else "")


def _close(bundle: Bundle) -> None:
    kept = list(bundle.members)
    if kept:
        bundle.set.write(bundle.client, {(key[0], key[1]) for key in kept}, {key[2] for key in kept if key[2]}, MANAGER)
    else:
        bundle.client.delete(bundle.set.path)
