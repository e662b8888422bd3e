# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What Helm has written down about its releases (private to this collection)."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ._errors import PlatformError
from ._kube_client import MERGE, METADATA_ONLY, ApiError, KubeClient
from ._yaml import LOADER, yaml

DIGEST = "platform.harvester-rke2.io/digest"
CRD = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")
_MARK = re.compile(r"^---.*$", re.MULTILINE)
_DEFINITION = re.compile(r"^kind: CustomResourceDefinition\s*$", re.MULTILINE)
_NAME = re.compile(r"""^metadata:\n(?:  .*\n)*?  name: ["']?([a-z0-9.-]+)["']?\s*$""", re.MULTILINE)


def revisions(client: KubeClient, namespace: str = "", name: str = "") -> list[dict[str, Any]]:
    """Metadata of Helm's release Secrets: without their data, which is big and full of values."""
    path = f"/api/v1/namespaces/{namespace}/secrets" if namespace else "/api/v1/secrets"
    selector = f"owner=helm,name={name}" if name else "owner=helm"
    found = client.list_all(path, query={"labelSelector": selector}, accept=METADATA_ONLY)
    return [item["metadata"] for item in found.get("items") or []]


def newest(metas: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry a release: its newest revision."""
    best: dict[tuple[str, str], dict[str, Any]] = {}
    for meta in metas:
        labels = meta.get("labels") or {}
        entry = {
            "name": labels.get("name", ""),
            "namespace": meta["namespace"],
            "revision": int(labels.get("version") or 0),
            "status": labels.get("status", ""),
            "digest": (meta.get("annotations") or {}).get(DIGEST, ""),
            "secret": meta["name"],
        }
        key = (entry["namespace"], entry["name"])
        if key not in best or best[key]["revision"] < entry["revision"]:
            best[key] = entry
    return [best[key] for key in sorted(best)]


def find(client: KubeClient, namespace: str, name: str) -> dict[str, Any]:
    found = newest(revisions(client, namespace, name))
    if not found:
        raise PlatformError(
            f"Looking for the Helm release {namespace}/{name}", "there is none", "Deploy its chart first."
        )
    return found[0]


def objects(client: KubeClient, release: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects of a release's manifest (its hooks are not among them)."""
    doing = f"Reading the Helm release {release['namespace']}/{release['name']}"
    secret = client.request("GET", f"/api/v1/namespaces/{release['namespace']}/secrets/{release['secret']}")
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        content = json.loads(gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed)
        documents = list(_documents(content["manifest"]))
    except (KeyError, ValueError, binascii.Error, gzip.BadGzipFile, yaml.YAMLError) as exc:
        raise PlatformError(doing, f"its Secret cannot be decoded ({type(exc).__name__})") from None
    result = []
    for document in documents:
        if not isinstance(document, dict) or not document.get("kind"):
            continue
        meta = document.setdefault("metadata", {})
        try:
            resource = client.resource(document["apiVersion"], document["kind"])
        except PlatformError:
            # Helm keeps what it has applied, even when the kind has gone since.
            continue
        if resource.namespaced and not meta.get("namespace"):
            meta["namespace"] = release["namespace"]
        result.append(document)
    return result


def _documents(manifest: str) -> Iterator[Any]:
    """The manifest's documents; of a definition only what it is: schemas are most of a big manifest, and cost time."""
    for text in _MARK.split(manifest):
        name = _NAME.search(text) if _DEFINITION.search(text) else None
        if name is None:
            yield from yaml.load_all(text, Loader=LOADER)
        else:
            yield {"apiVersion": CRD[0], "kind": CRD[1], "metadata": {"name": name[1]}}


def annotate(client: KubeClient, namespace: str, name: str, digest: str, *, check: bool) -> bool:
    """Keep the digest of chart and values with the release's newest revision; False if it is there."""
    release = find(client, namespace, name)
    if release["digest"] == digest:
        return False
    body = {"metadata": {"annotations": {DIGEST: digest}}}
    path = f"/api/v1/namespaces/{namespace}/secrets/{release['secret']}"
    query = {"fieldManager": "harvester-rke2-platform", "dryRun": "All" if check else None}
    try:
        client.request("PATCH", path, body=body, content_type=MERGE, query=query)
    except ApiError as exc:
        raise PlatformError(f"Annotating the Helm release {namespace}/{name}", exc.why, exc.mend) from exc
    return True
