# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Rancher's convenience API /v1: objects with id, type and links over the native API. It knows no PATCH for these."""

from __future__ import annotations

import json
from typing import Any

from lab.kube import Client, Object, Refused
from lab.rancher.http import Answer
from lab.rancher.v3 import Call, error

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
# plural with its group: version and whether it lives in a namespace; core kinds have no group
KINDS: dict[str, tuple[str, bool]] = {
    "provisioning.cattle.io.clusters": ("v1", True),
    "rke-machine-config.cattle.io.harvesterconfigs": ("v1", True),
    "cluster.x-k8s.io.machines": ("v1beta1", True),
    "cluster.x-k8s.io.machinedeployments": ("v1beta1", True),
    "rke.cattle.io.etcdsnapshots": ("v1", True),
    "management.cattle.io.clusters": ("v3", False),
    "management.cattle.io.features": ("v3", False),
    "management.cattle.io.settings": ("v3", False),
    "secrets": ("v1", True),
    "namespaces": ("v1", False),
    "configmaps": ("v1", True),
}


def native(kind: str, words: list[str]) -> str | None:
    """The native path of what is asked for by type, namespace and name."""
    if kind not in KINDS:
        return None
    version, spaced = KINDS[kind]
    group, _, plural = kind.rpartition(".")
    base = f"/apis/{group}/{version}" if group else f"/api/{version}"
    if spaced and words:
        base += f"/namespaces/{words[0]}"
        words = words[1:]
    if len(words) > 1:
        return None
    return "/".join([base, plural, *words])


def answer(client: Client, call: Call) -> Answer:
    _, kind, *words = call.path.strip("/").split("/")
    # the singular names of Rancher's older links
    kind = kind if kind in KINDS else f"{kind}s"
    path = native(kind, words)
    if path is None:
        return error(404, "NotFound", "not found")
    if call.method not in {"GET", "POST", "PUT", "DELETE"}:
        return error(405, "MethodNotAllowed", f"{call.method} not supported")
    body: Any = call.json() if call.method in {"POST", "PUT"} else None
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if key not in {"id", "type", "links", "actions"}}
        space = (body.get("metadata") or {}).get("namespace")
        if call.method == "POST" and not words and space:
            path = str(native(kind, [space]))
    try:
        found = client.request(call.method, path, body)
    except Refused as refused:
        return _refused(refused)
    if isinstance(found, dict) and "items" in found:
        data = [_shown(call, kind, item) for item in found["items"]]
        return Answer(200, {"type": "collection", "resourceType": kind.removesuffix("s"), "data": data})
    return Answer(201 if call.method == "POST" else 200, _shown(call, kind, found))


def _refused(refused: Refused) -> Answer:
    if refused.reason == "Conflict":
        # Rancher loses the reason on its way
        return error(500, "ServerError", str(refused.body.get("message", MODIFIED)))
    return error(refused.status, refused.reason or "ServerError", str(refused.body.get("message", refused)))


def _shown(call: Call, kind: str, item: Object) -> dict[str, Any]:
    meta = item.get("metadata") or {}
    name = "/".join(filter(None, (meta.get("namespace"), meta.get("name"))))
    conditions = (item.get("status") or {}).get("conditions") if isinstance(item.get("status"), dict) else None
    busy = [one for one in conditions or [] if one.get("status") == "False" and one.get("message")]
    state = {
        "error": any(one.get("reason") == "Error" for one in busy),
        "message": busy[0]["message"] if busy else "",
        "name": "active" if not busy else "updating",
        "transitioning": bool(busy),
    }
    own = f"{call.base}/v1/{kind}/{name}"
    extended = json.loads(json.dumps(item))
    extended.setdefault("metadata", {})["state"] = state
    links = {"self": own, "update": own, "remove": own}
    return {"id": name, "type": kind.removesuffix("s"), "links": links, **extended}
