# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What a run needs to know about a cluster, read at once (private to this collection)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import _helm_release as helm
from ._applyset import ID, NAMESPACE
from ._errors import PlatformError, Unreachable
from ._kube_client import CRDS, METADATA_ONLY, ApiError, KubeClient, UnknownKind

_GATEWAYS = "gateways.gateway.networking.k8s.io"
_BUNDLE_VERSION = "gateway.networking.k8s.io/bundle-version"
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"

NOTHING: dict[str, Any] = {
    "reachable": False,
    "why": "",
    "version": "",
    "server": "",
    "releases": [],
    "applysets": [],
    "crds": [],
    "gateway_api_version": "",
    "storage_classes": [],
    "nodes": 0,
    "node_labels": {},
    "objects": [],
    "root_ca_certificate": "",
    "harvester_why": "",
    "harvester_host": "",
    "rancher_tokens": {},
}


def read(client: KubeClient, kinds: Iterable[Mapping[str, str]] = (), *, renewable: bool = False) -> dict[str, Any]:
    """Everything about the cluster itself; it is unreachable rather than a failure when nothing answers.

    ``renewable`` says that this run makes a new kubeconfig: then one that is refused is as good as none.
    """
    doing = f"Reading the state of the cluster {client.config.server}"
    try:
        version = client.request("GET", "/version")
    except Unreachable as exc:
        return {**NOTHING, "server": client.config.server, "why": str(exc)}
    except ApiError as exc:
        # The kubeconfig of a cluster that has gone, or is not up yet, leads to a Rancher that is.
        if exc.unconnected or exc.status in (404, 502, 504) or (renewable and exc.status == 401):
            return {**NOTHING, "server": client.config.server, "why": f"{doing}: {exc.why}."}
        raise _refused(doing, client, exc, "make a new kubeconfig (phase 0)") from None
    parts: dict[str, Callable[[KubeClient], Any]] = {
        "releases": _releases,
        "applysets": _applysets,
        "_crds": _crds,
        "storage_classes": _storage_classes,
        "node_labels": _node_labels,
        "objects": lambda client: _objects(client, kinds),
    }
    try:
        with ThreadPoolExecutor(len(parts)) as pool:
            found = dict(zip(parts, pool.map(lambda part: part(client), parts.values()), strict=True))
    except ApiError as exc:
        raise _refused(doing, client, exc, "make a new kubeconfig (phase 0)") from None
    crds = found.pop("_crds")
    return {
        **NOTHING,
        **found,
        "nodes": len(found["node_labels"]),
        "reachable": True,
        "version": str(version.get("gitVersion", "")),
        "server": client.config.server,
        "crds": sorted(crds),
        "gateway_api_version": crds.get(_GATEWAYS, "").removeprefix("v"),
    }


def _refused(doing: str, client: KubeClient, exc: ApiError, mend: str) -> PlatformError:
    """A credential that is refused, told with the file it is in; anything else as it is."""
    if exc.status not in (401, 403):
        return exc
    why = f"the user of {client.config.title} may not ({exc.message})"
    return PlatformError(doing, why, f"Its credential may have expired: {mend}.")


def _releases(client: KubeClient) -> list[dict[str, Any]]:
    return [
        {key: release[key] for key in ("name", "namespace", "revision", "status", "digest")}
        for release in helm.newest(helm.revisions(client))
    ]


def _applysets(client: KubeClient) -> list[str]:
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
    answer = client.list_all(path, query={"labelSelector": ID}, accept=METADATA_ONLY)
    names = [item["metadata"]["name"] for item in answer.get("items") or []]
    return sorted(name.removeprefix("applyset-") for name in names if name.startswith("applyset-"))


def _crds(client: KubeClient) -> dict[str, str]:
    """Name to Gateway API bundle version; without their schemas, which are megabytes."""
    answer = client.list_all(CRDS, accept=METADATA_ONLY)
    return {
        item["metadata"]["name"]: str((item["metadata"].get("annotations") or {}).get(_BUNDLE_VERSION, ""))
        for item in answer.get("items") or []
    }


def _storage_classes(client: KubeClient) -> list[dict[str, Any]]:
    answer = client.request("GET", "/apis/storage.k8s.io/v1/storageclasses")
    return [
        {
            "name": item["metadata"]["name"],
            "provisioner": item.get("provisioner", ""),
            "default": (item["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS) == "true",
            "expandable": bool(item.get("allowVolumeExpansion")),
            "binding_mode": item.get("volumeBindingMode", "Immediate"),
        }
        for item in answer.get("items") or []
    ]


def _node_labels(client: KubeClient) -> dict[str, dict[str, str]]:
    answer = client.list_all("/api/v1/nodes", accept=METADATA_ONLY)
    return {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in answer.get("items") or []}


def _objects(client: KubeClient, kinds: Iterable[Mapping[str, str]]) -> list[str]:
    found = []
    for wanted in kinds:
        try:
            path = client.resource(wanted["api_version"], wanted["kind"]).path()
        except UnknownKind:
            continue
        for item in client.list_all(path, accept=METADATA_ONLY).get("items") or []:
            about = item["metadata"]
            found.append(f"{wanted['kind']} {about.get('namespace', '')}/{about['name']}")
    return sorted(found)


def root_ca(client: KubeClient, namespace: str, name: str) -> str:
    """The certificate of the root CA, or an empty string while there is none; its key never leaves this function."""
    doing = f"Reading the root CA from Secret {namespace}/{name} of {client.config.server}"
    try:
        secret = client.get_or_none(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except ApiError as exc:
        raise _refused(doing, client, exc, "download a new kubeconfig from Harvester") from None
    if secret is None:
        return ""
    encoded = (secret.get("data") or {}).get("tls.crt")
    if not encoded:
        raise PlatformError(doing, "it has no tls.crt", "Look who has changed it.")
    return base64.b64decode(encoded).decode()
