# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Rancher's /v3: clusters, kubeconfigs, settings and tokens, as far as the platform uses them."""

from __future__ import annotations

import base64
import datetime
import json
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from lab.kube import Object
from lab.rancher import settings, tokens
from lab.rancher.http import Answer
from lab.rancher.settings import RELEASES
from lab.rancher.state import State, connected

KUBECONFIG_DAYS = 30  # Rancher's setting kubeconfig-default-token-ttl-minutes


@dataclass
class Call:
    """One request, already authenticated."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    user: str
    base: str  # how the client reached us

    @property
    def uri(self) -> str:
        return f"{self.path}?{urllib.parse.urlencode(self.query)}" if self.query else self.path

    def json(self) -> dict[str, Any]:
        try:
            parsed = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}


def error(status: int, code: str, message: str) -> Answer:
    return Answer(
        status, {"baseType": "error", "code": code, "message": message, "status": status, "type": "error", "links": {}}
    )


def answer(state: State, call: Call) -> Answer:
    words = [urllib.parse.unquote(word) for word in call.path.strip("/").split("/")][1:]
    kind, name = (*words, "", "")[:2]
    if len(words) > 2:
        return error(404, "NotFound", "not found")
    if call.user != settings.USER and kind not in {"", "tokens", "token"}:
        return error(403, "Forbidden", f"{kind} is forbidden: only its tokens are shown to {call.user} here")
    match kind:
        case "clusters" | "cluster":
            return _clusters(state, call, name)
        case "tokens" | "token":
            return _tokens(state, call, name)
        case "settings" | "setting":
            return _settings(state, call, name)
        case "":
            links = {word: f"{call.base}/v3/{word}" for word in ("clusters", "tokens", "settings")}
            return Answer(200, {"type": "collection", "resourceType": "apiRoot", "links": links, "data": []})
    return error(404, "NotFound", "not found")


def releases(call: Call) -> Answer:
    """The versions of RKE2 that can be installed, from an API of their own."""
    return _collection(call, "release", [{"id": one, "type": "release", "version": one} for one in RELEASES])


def _collection(call: Call, kind: str, data: list[Any]) -> Answer:
    links = {"self": f"{call.base}{call.uri}"}
    return Answer(200, {"type": "collection", "resourceType": kind, "links": links, "data": data})


def _clusters(state: State, call: Call, name: str) -> Answer:
    if not name:
        wanted = call.query.get("name")
        shown = [_cluster(call, item) for item in state.clusters.items.values()]
        if call.method != "GET":
            return error(405, "MethodNotAllowed", "Method not allowed")
        return _collection(call, "cluster", [item for item in shown if wanted in (None, item["name"], item["id"])])
    found = state.cluster(name)
    if found is None:
        return error(404, "NotFound", f'clusters.management.cattle.io "{name}" not found')
    if call.method == "POST" and call.query.get("action") == "generateKubeconfig":
        return _kubeconfig(state, call, found)
    if call.method != "GET":
        return error(405, "MethodNotAllowed", "Method not allowed")
    return Answer(200, _cluster(call, found))


def _cluster(call: Call, item: Object) -> dict[str, Any]:
    name, spec, status = item["metadata"]["name"], item.get("spec") or {}, item.get("status") or {}
    own = f"{call.base}/v3/clusters/{name}"
    return {
        "actions": {"generateKubeconfig": f"{own}?action=generateKubeconfig"},
        "annotations": item["metadata"].get("annotations") or {},
        "baseType": "cluster",
        "conditions": status.get("conditions") or [],
        "created": item["metadata"].get("creationTimestamp"),
        "driver": status.get("driver", "imported"),
        "fleetWorkspaceName": spec.get("fleetWorkspaceName"),
        "id": name,
        "labels": item["metadata"].get("labels") or {},
        "links": {"self": own},
        "name": spec.get("displayName") or name,
        "nodeCount": status.get("nodeCount", 0),
        "provider": status.get("provider", ""),
        "state": "active" if connected(item) else "provisioning",
        "transitioning": "no" if connected(item) else "yes",
        "type": "cluster",
        "uuid": item["metadata"].get("uid"),
        "version": {"gitVersion": (status.get("version") or {}).get("gitVersion", "")},
    }


def _kubeconfig(state: State, call: Call, cluster: Object) -> Answer:
    """Each call makes another token."""
    ttl = datetime.timedelta(days=KUBECONFIG_DAYS)
    name = f"kubeconfig-{call.user}{tokens.word(5)}"
    token, secret = tokens.make(name, ttl, "Kubeconfig token", user=call.user, kind="kubeconfig")
    token["clusterName"] = cluster["metadata"]["name"]
    state.mint(token)
    title = (cluster.get("spec") or {}).get("displayName") or cluster["metadata"]["name"]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": title,
                "cluster": {
                    "server": f"{call.base}/k8s/clusters/{cluster['metadata']['name']}",
                    "certificate-authority-data": base64.b64encode(state.files.authority.read_bytes()).decode(),
                },
            }
        ],
        "users": [{"name": title, "user": {"token": f"{name}:{secret}"}}],
        "contexts": [{"name": title, "context": {"user": title, "cluster": title}}],
        "current-context": title,
    }
    state.audit.write("create", call.uri, call.user, "tokens", name, 200)
    body = {"baseType": "generateKubeConfigOutput", "type": "generateKubeConfigOutput"}
    return Answer(200, {**body, "config": yaml.safe_dump(config, sort_keys=False)})


def _tokens(state: State, call: Call, name: str) -> Answer:
    if call.method == "GET" and not name:
        own = [item for item in state.all_tokens() if item.get("userId") == call.user]
        shown = [tokens.shown(item, call.base) for item in own]
        wanted = call.query.get("description")
        return _collection(call, "token", [item for item in shown if wanted in (None, item["description"])])
    if call.method == "POST" and not name:
        token, secret = tokens.from_request(call.json(), call.user)
        made = state.mint(token)
        state.audit.write("create", call.uri, call.user, "tokens", made["metadata"]["name"], 201)
        text = f"{made['metadata']['name']}:{secret}"
        return Answer(201, {**tokens.shown(made, call.base), "token": text})
    found = state.token(name)
    if found is None or found.get("userId") != call.user:
        return error(404, "NotFound", f'tokens.management.cattle.io "{name}" not found')
    if call.method == "GET":
        return Answer(200, tokens.shown(found, call.base))
    if call.method == "DELETE":
        state.client.delete(f"{tokens.PATH}/{name}")
        state.audit.write("delete", call.uri, call.user, "tokens", name, 200)
        return Answer(200, tokens.shown(found, call.base))
    return error(405, "MethodNotAllowed", "Method not allowed")


def _settings(state: State, call: Call, name: str) -> Answer:
    if call.method != "GET":
        return error(405, "MethodNotAllowed", "Method not allowed")
    found = state.setting(name)
    if found is None:
        return error(404, "NotFound", f'settings.management.cattle.io "{name}" not found')
    own = f"{call.base}/v3/settings/{name}"
    value = found.get("value") or found.get("default", "")
    body = {"id": name, "name": name, "value": value, "customized": bool(found.get("value"))}
    return Answer(200, {**body, "type": "setting", "baseType": "setting", "links": {"self": own}})
