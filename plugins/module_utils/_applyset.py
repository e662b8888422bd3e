# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""kubectl's ApplySet convention: what a bundle has applied before (private to this collection).

The parent is a ConfigMap. It is written before the first member and its annotations only ever grow until the last
one is applied, so that a run that is killed in between leaves no member that the next run would not find.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._errors import PlatformError
from ._kube_client import KubeClient

NAMESPACE = "kube-system"
TOOLING = "harvester-rke2-platform/v1"
ID = "applyset.kubernetes.io/id"
PART_OF = "applyset.kubernetes.io/part-of"
_TOOL = "applyset.kubernetes.io/tooling"
_KINDS = "applyset.kubernetes.io/contains-group-kinds"
_NAMESPACES = "applyset.kubernetes.io/additional-namespaces"

GroupKind = tuple[str, str]


def identity(name: str) -> str:
    """The id by kubectl's rule: base64url(sha256(name.namespace.kind.group))."""
    digest = hashlib.sha256(f"applyset-{name}.{NAMESPACE}.ConfigMap.".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).decode().rstrip('=')}-v1"


def group_kind(text: str) -> GroupKind:
    kind, _, group = text.partition(".")
    return group, kind


def written(key: GroupKind) -> str:
    group, kind = key
    return f"{kind}.{group}" if group else kind


def namespaces_of(parent: Mapping[str, Any]) -> set[str]:
    notes = parent["metadata"].get("annotations") or {}
    return {part for part in notes.get(_NAMESPACES, "").split(",") if part}


@dataclass
class ApplySet:
    """The set of one bundle, as it stands on the server."""

    name: str
    exists: bool = False
    kinds: set[GroupKind] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        return identity(self.name)

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{NAMESPACE}/configmaps/applyset-{self.name}"

    @classmethod
    def read(cls, client: KubeClient, name: str) -> ApplySet:
        result = cls(name)
        live = client.get_or_none(result.path)
        if live is None:
            return result
        result.exists = True
        meta = live["metadata"]
        notes: Mapping[str, str] = meta.get("annotations") or {}
        tool = notes.get(_TOOL, "")
        found = (meta.get("labels") or {}).get(ID)
        doing = f"Reading the ApplySet ConfigMap {NAMESPACE}/applyset-{name}"
        if tool.partition("/")[0] != TOOLING.partition("/")[0]:
            raise PlatformError(
                doing,
                f"it belongs to the tool '{tool or 'unknown'}', whose objects must not be pruned by another",
                "Choose another `name`, or delete the ConfigMap if that tool is no longer used.",
            )
        if found != result.id:
            raise PlatformError(doing, f"its id is {found}, not {result.id}", "Delete the ConfigMap; run again.")
        result.kinds = {group_kind(part) for part in notes.get(_KINDS, "").split(",") if part}
        result.namespaces = namespaces_of(live)
        return result

    def parent(self, kinds: Iterable[GroupKind], namespaces: Iterable[str]) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": f"applyset-{self.name}",
                "namespace": NAMESPACE,
                "labels": {ID: self.id},
                "annotations": {
                    _TOOL: TOOLING,
                    _KINDS: ",".join(sorted(map(written, kinds))),
                    _NAMESPACES: ",".join(sorted(set(namespaces) - {NAMESPACE, ""})),
                },
            },
        }

    def write(self, client: KubeClient, kinds: set[GroupKind], namespaces: set[str], manager: str) -> bool:
        """Bring the parent to these kinds and namespaces; False if it had them."""
        wanted = namespaces - {NAMESPACE, ""}
        if self.exists and kinds == self.kinds and wanted == self.namespaces:
            return False
        client.apply(self.parent(kinds, wanted), field_manager=manager, force=True)
        self.exists, self.kinds, self.namespaces = True, set(kinds), set(wanted)
        return True

    def members(
        self, client: KubeClient, key: GroupKind, api_version: str | None = None
    ) -> list[dict[str, Any]] | None:
        """All members of this kind, by one list request; None if the cluster does not serve the kind."""
        resource = client.discovery.preferred(*key)
        if resource is None:
            return None
        if api_version and api_version != resource.api_version:
            resource = client.resource(api_version, resource.kind)
        answer = client.list_all(resource.path(), query={"labelSelector": f"{PART_OF}={self.id}"})
        # A list does not repeat what its items are.
        about = {"apiVersion": resource.api_version, "kind": resource.kind}
        return [{**item, **about} for item in answer.get("items") or []]
