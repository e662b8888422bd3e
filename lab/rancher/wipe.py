# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The end of the last cluster, where Rancher makes the nodes: its API server is the lab's, so what was written into it
is taken out again. The next cluster begins with what the first one found."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.kube import Client, Object, Refused
from lab.pki import write

log = logging.getLogger(__name__)
# what others make and take by themselves
PASSING = {"events", "endpoints", "endpointslices", "leases", "nodes", "bindings", "apiservices", "componentstatuses"}
LAB = {"kwok.x-k8s.io", "metrics.k8s.io"}
FIRST = (
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "deployments",
    "statefulsets",
    "daemonsets",
)
LAST = ("customresourcedefinitions", "namespaces")


class Wipe:
    def __init__(self, client: Client, file: Path) -> None:
        self.client, self.file = client, file

    def remember(self) -> None:
        """Once, before the first node is there."""
        if not self.file.exists():
            write(self.file, json.dumps(sorted(path for path, _ in self._everything())).encode(), 0o644)

    def act(self) -> bool:
        """True when nothing is left."""
        if not self.file.exists():
            return True
        kept = set(json.loads(self.file.read_text()))
        found = list(self._everything())
        first = {item["metadata"]["uid"] for path, item in found if path in kept}
        waiting = owned([item["metadata"] for _, item in found], first)
        gone: list[str] = []
        for path, item in found:
            # RKE2's own Deployments make their pods again: without a node these wait for the next cluster
            if path not in kept and (item["metadata"]["uid"] not in waiting or item.get("spec", {}).get("nodeName")):
                gone.append(path)
                self._remove(path, item)
        log.info("%d objects taken out of the RKE2 cluster's API server: %s", len(gone), ", ".join(gone[:12]))
        return not gone

    def _remove(self, path: str, item: Object) -> None:
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if "/pods/" in path:
            options["gracePeriodSeconds"] = 0  # their kubelets are gone
        try:
            self.client.request("DELETE", path, options)
            left = self.client.get(path) if item["metadata"].get("finalizers") else None
            whole = path.startswith("/api/v1/namespaces/") and path.count("/") == 4  # empties itself first
            if left and not whole:
                self.client.merge(path, {"metadata": {"finalizers": None}})
        except Refused as error:
            if error.status not in {404, 405, 409}:
                log.info("%s: %s", path, error)

    def _everything(self) -> Iterator[tuple[str, Object]]:
        """Paths of all objects, in the order in which they should go."""
        found = list(self._resources())
        found.sort(key=lambda one: (one[1] in LAST, LAST.index(one[1]) if one[1] in LAST else 0, one[1] not in FIRST))
        for base, plural, spaced in found:
            try:
                items = self.client.request("GET", f"{base}/{plural}")["items"] or []
            except Refused:
                continue
            for item in items:
                meta = item["metadata"]
                middle = f"/namespaces/{meta['namespace']}" if spaced else ""
                yield f"{base}{middle}/{plural}/{meta['name']}", item

    def _resources(self) -> Iterator[tuple[str, str, bool]]:
        groups = self.client.request("GET", "/apis")["groups"]
        versions = [group["preferredVersion"]["groupVersion"] for group in groups if group["name"] not in LAB]
        for base in ["/api/v1", *(f"/apis/{version}" for version in versions)]:
            try:
                listed = self.client.request("GET", base)["resources"]
            except Refused:
                continue
            for one in listed:
                usable = {"list", "delete"} <= set(one["verbs"]) and "/" not in one["name"]
                if usable and one["name"] not in PASSING:
                    yield base, one["name"], bool(one["namespaced"])


def owned(metas: Iterable[Object], roots: set[str]) -> set[str]:
    """Uids of what has one of the roots as its controller, and so on downwards."""
    parents = {
        meta["uid"]: owner["uid"]
        for meta in metas
        for owner in meta.get("ownerReferences") or []
        if owner.get("controller")
    }
    below: set[str] = set()
    while more := {uid for uid, parent in parents.items() if parent in roots | below} - below:
        below |= more
    return below
