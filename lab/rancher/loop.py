# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A controller over several API servers: copies kept by watches, acted on when they change or when something is due."""

from __future__ import annotations

import datetime
import http.client
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from lab.kube import Client, Object, Refused
from lab.mirror import Mirror, Store

log = logging.getLogger(__name__)
IDLE = 20.0  # a fault that was taken away must be seen without an event
FAILURES = (OSError, http.client.HTTPException, Refused)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Due:
    """When things began, and the moment at which the next of them is over."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.next: float | None = None

    def over(self, what: str, seconds: float) -> bool:
        """Whether that long has passed since this was first asked."""
        at = self.began.setdefault(what, time.monotonic()) + seconds
        if time.monotonic() >= at:
            return True
        self.at(at)
        return False

    def at(self, moment: float) -> None:
        self.next = moment if self.next is None else min(self.next, moment)

    def soon(self, seconds: float) -> None:
        self.at(time.monotonic() + seconds)

    def forget(self, *prefixes: str) -> None:
        for what in [what for what in self.began if what.startswith(prefixes)]:
            del self.began[what]


class Loop(threading.Thread):
    def __init__(
        self,
        name: str,
        sources: Mapping[str, tuple[Client, str]],
        act: Callable[[Mapping[str, Store], Due], None],
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.act = act
        self.due = Due()
        self.changed = threading.Event()
        self.mirrors = {word: Mirror(client, path, self.changed) for word, (client, path) in sources.items()}

    def run(self) -> None:
        for mirror in self.mirrors.values():
            mirror.start()
        for mirror in self.mirrors.values():
            mirror.filled.wait()
        while True:
            due = self.due.next
            self.changed.wait(IDLE if due is None else max(0.0, due - time.monotonic()))
            self.changed.clear()
            self.due.next = None
            try:
                self.act({word: mirror.items for word, mirror in self.mirrors.items()}, self.due)
            except FAILURES as error:
                log.warning("%s: %s", self.name, error)
                self.due.soon(0.5)
            except Exception:
                # an object that nobody thought of must not end the whole controller
                log.exception("%s", self.name)
                self.due.soon(5)
            time.sleep(0.05)


def condition(kind: str, status: bool | str, reason: str = "", message: str = "") -> dict[str, Any]:
    text = status if isinstance(status, str) else str(status)
    return {"type": kind, "status": text, "reason": reason, "message": message}


def conditions(item: Object, wanted: list[dict[str, Any]], *, updated: bool = False) -> list[dict[str, Any]]:
    """The item's conditions with these in place; times change only where the status does."""
    kept = {entry["type"]: entry for entry in (item.get("status") or {}).get("conditions") or []}
    for entry in wanted:
        before = kept.get(entry["type"])
        if before and all((before.get(key) or "") == (entry.get(key) or "") for key in ("status", "reason", "message")):
            continue
        same = before is not None and before["status"] == entry["status"]
        moment = str(before.get("lastTransitionTime")) if before and same else now()
        # some kinds refuse an empty reason
        said = {key: value for key, value in entry.items() if value != ""}
        kept[entry["type"]] = {**said, "lastTransitionTime": moment, **({"lastUpdateTime": now()} if updated else {})}
    return list(kept.values())


def holds(item: Object | None, kind: str) -> bool:
    found = ((item or {}).get("status") or {}).get("conditions") or []
    return any(entry["type"] == kind and entry["status"] == "True" for entry in found)


def path_of(base: str, item: Object) -> str:
    """The path of an object below its kind's list path (/apis/group/version/plural)."""
    meta = item["metadata"]
    return path(base, meta.get("namespace"), meta["name"])


def path(base: str, namespace: str | None, name: str = "") -> str:
    start, plural = base.rsplit("/", 1)
    middle = f"/namespaces/{namespace}" if namespace else ""
    return f"{start}{middle}/{plural}" + (f"/{name}" if name else "")


def create(client: Client, base: str, item: Object) -> bool:
    """False when it is there already."""
    try:
        client.request("POST", path(base, item["metadata"].get("namespace")), item)
    except Refused as error:
        if error.reason != "AlreadyExists":
            raise
        return False
    return True


def set_status(client: Client, base: str, item: Object, status: Object, subresource: bool = True) -> None:
    """Merge into the status, and only what is not so already."""
    before = item.get("status") or {}
    if all(before.get(key) == value for key, value in status.items()):
        return
    target = path_of(base, item) + ("/status" if subresource else "")
    try:
        client.merge(target, {"status": status})
    except Refused as error:
        if error.status != 404:
            raise


def finalize(client: Client, base: str, item: Object, finalizers: list[str]) -> None:
    try:
        client.merge(path_of(base, item), {"metadata": {"finalizers": finalizers or None}})
    except Refused as error:
        if error.status != 404:
            raise
