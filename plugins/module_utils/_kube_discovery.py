# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What kinds an API server serves, and at which path (private to this collection)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ._errors import PlatformError

AGGREGATED = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)
Get = Callable[[str, str], Any]


class UnknownKind(PlatformError):
    """The API server does not serve this kind (its CRD is missing, or its aggregated server is down)."""


@dataclass(frozen=True)
class Resource:
    """One kind as the API server serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def group(self) -> str:
        return group_of(self.api_version)

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        base = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        if self.namespaced and namespace:
            base += f"/namespaces/{quote(namespace, safe='')}"
        base += f"/{self.plural}"
        return f"{base}/{quote(name, safe='')}" if name else base


def group_of(api_version: str) -> str:
    return api_version.partition("/")[0] if "/" in api_version else ""


class Discovery:
    """Kind -> Resource, filled by two requests where the server aggregates its discovery, else group by group."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Resource] = {}
        self._preferred: dict[tuple[str, str], Resource] = {}
        self._complete = False

    def find(self, api_version: str, kind: str) -> Resource:
        with self._lock:
            resource = self._known.get((api_version, kind))
            if resource is None and not self._complete:
                self._load()
                resource = self._known.get((api_version, kind))
        if resource is None:
            raise UnknownKind(
                f"Looking up the kind {kind} of {api_version}",
                "the cluster does not serve it",
                "Install what brings its CustomResourceDefinition, or correct apiVersion and kind.",
                kind=kind,
                api_version=api_version,
            )
        return resource

    def preferred(self, group: str, kind: str) -> Resource | None:
        """The resource of a group and kind in the version that the server prefers."""
        with self._lock:
            if not self._complete:
                self._load()
            return self._preferred.get((group, kind))

    def serves(self, definition: str) -> bool:
        """Whether the kind of a definition, <plural>.<group>, is served: only an established one is."""
        plural, group = definition.split(".", 1)
        with self._lock:
            if not self._complete:
                self._load()
            return any(found.plural == plural and found.group == group for found in self._known.values())

    def forget(self) -> None:
        """Ask again at the next miss (a CRD has been made, or one has gone)."""
        with self._lock:
            self._complete = False

    def _load(self) -> None:
        self._known.clear()
        self._preferred.clear()
        for root in ("/api", "/apis"):
            answer = self._get(root, AGGREGATED)
            if answer.get("kind") == "APIGroupDiscoveryList":
                self._read_aggregated(answer)
            elif root == "/api":
                for version in answer.get("versions", []):
                    self._read_group_version(version)
            else:
                for group in answer.get("groups", []):
                    order = [group["preferredVersion"]["groupVersion"]]
                    order += [entry["groupVersion"] for entry in group["versions"]]
                    for version in dict.fromkeys(order):
                        self._read_group_version(version)
        self._complete = True

    def _add(self, resource: Resource) -> None:
        self._known[(resource.api_version, resource.kind)] = resource
        self._preferred.setdefault((resource.group, resource.kind), resource)

    def _read_aggregated(self, answer: dict[str, Any]) -> None:
        for item in answer.get("items", []):
            group = item["metadata"].get("name", "")
            for version in item.get("versions", []):
                api_version = f"{group}/{version['version']}" if group else version["version"]
                for entry in version.get("resources", []):
                    kind = (entry.get("responseKind") or {}).get("kind") or ""
                    if kind:
                        self._add(Resource(api_version, kind, entry["resource"], entry.get("scope") == "Namespaced"))

    def _read_group_version(self, api_version: str) -> None:
        root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        try:
            answer = self._get(root, "application/json")
        except PlatformError as exc:
            # One aggregated API that is down must not hide all the others; its own kinds stay unknown.
            if exc.data.get("status", 0) in (404, 503):
                return
            raise
        for entry in answer.get("resources", []):
            if "/" not in entry["name"]:
                self._add(Resource(api_version, entry["kind"], entry["name"], bool(entry["namespaced"])))
