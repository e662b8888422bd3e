# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What the objects of a bundle are, and in which order they go (private to this collection)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._errors import PlatformError
from ._kube_discovery import group_of

# A wave is applied in parallel; its objects have no order among themselves but the one they are reported in.
_WAVES: tuple[frozenset[tuple[str, str]], ...] = (
    frozenset({("", "Namespace")}),
    frozenset({("apiextensions.k8s.io", "CustomResourceDefinition")}),
    frozenset(
        {
            ("", "ServiceAccount"),
            ("", "ResourceQuota"),
            ("", "LimitRange"),
            ("scheduling.k8s.io", "PriorityClass"),
            ("storage.k8s.io", "StorageClass"),
            ("storage.k8s.io", "VolumeSnapshotClass"),
            ("node.k8s.io", "RuntimeClass"),
            ("networking.k8s.io", "IngressClass"),
            ("rbac.authorization.k8s.io", "ClusterRole"),
            ("rbac.authorization.k8s.io", "Role"),
        }
    ),
    frozenset(
        {
            ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
            ("rbac.authorization.k8s.io", "RoleBinding"),
            ("networking.k8s.io", "NetworkPolicy"),
            ("", "ConfigMap"),
            ("", "Secret"),
            ("", "PersistentVolume"),
            ("", "PersistentVolumeClaim"),
            ("", "Service"),
            ("", "Endpoints"),
            ("discovery.k8s.io", "EndpointSlice"),
        }
    ),
    frozenset(
        {
            ("", "Pod"),
            ("", "ReplicationController"),
            ("apps", "Deployment"),
            ("apps", "StatefulSet"),
            ("apps", "DaemonSet"),
            ("apps", "ReplicaSet"),
            ("batch", "Job"),
            ("batch", "CronJob"),
            ("policy", "PodDisruptionBudget"),
            ("autoscaling", "HorizontalPodAutoscaler"),
            ("networking.k8s.io", "Ingress"),
            # A Cluster that is made before them boots its machines without what they say.
            ("rke-machine-config.cattle.io", "HarvesterConfig"),
        }
    ),
)
_CUSTOM = len(_WAVES)
_LAST: dict[tuple[str, str], int] = {
    ("apiregistration.k8s.io", "APIService"): _CUSTOM + 1,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _CUSTOM + 2,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _CUSTOM + 2,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _CUSTOM + 2,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): _CUSTOM + 3,
}
_WAVE_OF = {key: wave for wave, keys in enumerate(_WAVES) for key in keys} | _LAST

# Losing one of these loses data, or breaks another cluster that shares it: a template that no longer has it is not
# enough reason. Whole groups first, then single kinds.
_KEPT_GROUPS = frozenset(
    {
        "postgresql.cnpg.io",
        "barmancloud.cnpg.io",
        "k8s.mariadb.com",
        "redis.redis.opstreelabs.in",
        "harvesterhci.io",
        "network.harvesterhci.io",
        "loadbalancer.harvesterhci.io",
        "k8s.cni.cncf.io",
        "kubevirt.io",
        "cdi.kubevirt.io",
        "longhorn.io",
        "snapshot.storage.k8s.io",
        "provisioning.cattle.io",
        "rke-machine-config.cattle.io",
        "cluster.x-k8s.io",
    }
)
_KEPT_KINDS = frozenset(
    {
        ("", "Namespace"),
        ("", "Node"),
        ("", "PersistentVolume"),
        ("", "PersistentVolumeClaim"),
        ("", "Secret"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("storage.k8s.io", "StorageClass"),
    }
)


def never_pruned(group: str, kind: str) -> bool:
    return group in _KEPT_GROUPS or (group, kind) in _KEPT_KINDS


@dataclass
class Item:
    """One object of a bundle and where it was written."""

    index: int
    source: str
    obj: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.obj["kind"])

    @property
    def group(self) -> str:
        return group_of(self.obj["apiVersion"])

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.obj["metadata"].get("namespace") or "")

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.group, self.kind, self.namespace, self.name)

    @property
    def title(self) -> str:
        return title(self.obj)

    @property
    def wave(self) -> int:
        return _WAVE_OF.get((self.group, self.kind), _CUSTOM)


def title(obj: Mapping[str, Any]) -> str:
    meta = obj["metadata"]
    name = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]
    return f"{obj['kind']} {name}"


def read(objects: Sequence[Any], sources: Sequence[str]) -> list[Item]:
    """Check that each is an object, and bring it into the one form that is compared."""
    items = []
    seen: dict[tuple[str, str, str, str], str] = {}
    for index, obj in enumerate(objects):
        source = sources[index] if index < len(sources) else f"objects[{index}]"
        item = Item(index, source, _checked(obj, source))
        if item.key in seen:
            where = f"in {source}" if seen[item.key] == source else f"in {seen[item.key]} and in {source}"
            raise PlatformError(f"Reading {item.title} of {source}", f"it is there twice ({where})", "Remove one.")
        seen[item.key] = source
        items.append(item)
    return items


def _checked(obj: Any, source: str) -> dict[str, Any]:
    doing = f"Reading an object of {source}"
    if not isinstance(obj, dict):
        raise PlatformError(doing, f"it is no mapping but {type(obj).__name__}")
    for key in ("apiVersion", "kind"):
        if not isinstance(obj.get(key), str) or not obj[key]:
            raise PlatformError(doing, f"it has no {key}", f"It has the keys {', '.join(map(str, obj))[:200]}.")
    meta = obj.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
        raise PlatformError(doing, f"a {obj['kind']} has no metadata.name", "Objects of a bundle are applied by name.")
    for key in ("managedFields", "resourceVersion", "uid", "creationTimestamp"):
        if meta.get(key) is not None:
            raise PlatformError(
                f"Reading {title(obj)} of {source}", f"metadata.{key} is the API server's to set", "Remove it."
            )
    result = {key: value for key, value in obj.items() if key != "status"}
    result["metadata"] = {key: value for key, value in meta.items() if value not in (None, {}, "")}
    if obj["kind"] == "Secret" and obj["apiVersion"] == "v1" and obj.get("stringData"):
        # stringData is written by nobody's name and never comes back: applied as it is, it would look changed for ever.
        data = dict(result.get("data") or {})
        for key, value in result.pop("stringData").items():
            data[key] = base64.b64encode(str(value).encode()).decode()
        result["data"] = data
    return result


def waves(items: Sequence[Item]) -> list[list[Item]]:
    """In the order of their waves; inside one as written."""
    grouped: dict[int, list[Item]] = {}
    for item in items:
        grouped.setdefault(item.wave, []).append(item)
    return [sorted(grouped[wave], key=lambda item: item.index) for wave in sorted(grouped)]
