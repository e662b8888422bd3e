# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is made inside: chart values, additional manifests, Harvester's cloud provider, Rancher's webhook."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from typing import Any

import yaml

from lab.kube import Client, Object, Refused
from lab.rancher import driver, guests, webhook
from lab.rancher.clusterfiles import values_of
from lab.rancher.loop import create
from lab.rancher.world import World, rke

log = logging.getLogger(__name__)
CONFIGS = "/apis/helm.cattle.io/v1/helmchartconfigs"
CHARTS = "/apis/helm.cattle.io/v1/helmcharts"
MANAGER = "rancher-system-agent"
PROVIDER_CHARTS = ("harvester-cloud-provider", "harvester-csi-driver")


class Downstream:
    """Applied again only when the Cluster says something else."""

    def __init__(self) -> None:
        self.applied: dict[str, str] = {}
        self.kinds: dict[str, dict[str, tuple[str, bool]]] = {}
        self.hooked: set[str] = set()

    def forget(self, world: World, cluster: Object) -> None:
        self.hooked.discard(cluster["metadata"]["uid"])
        self.applied.pop(cluster["metadata"]["uid"], None)

    def act(self, world: World, cluster: Object) -> None:
        config, uid = rke(cluster), cluster["metadata"]["uid"]
        wanted: dict[str, Any] = {
            "charts": config.get("chartValues") or {},
            "manifest": config.get("additionalManifest") or "",
        }
        digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
        if self.applied.get(uid) != digest:
            self._charts(world.guest, wanted["charts"])
            if self._manifest(world.guest, str(wanted["manifest"])):
                self.applied[uid] = digest
            else:
                world.due.soon(2)
        if uid not in self.hooked:
            webhook.install(world.guest, world.authority)
            self.hooked.add(uid)
        self._provider(world, cluster)

    def _charts(self, client: Client, charts: dict[str, Any]) -> None:
        for name, values in charts.items():
            text = yaml.safe_dump(values, sort_keys=False) if values else ""
            body = {
                "apiVersion": "helm.cattle.io/v1",
                "kind": "HelmChartConfig",
                "metadata": {"name": name, "namespace": "kube-system"},
                "spec": {"valuesContent": text},
            }
            target = f"/apis/helm.cattle.io/v1/namespaces/kube-system/helmchartconfigs/{name}"
            client.apply(target, body, MANAGER)

    def _manifest(self, client: Client, text: str) -> bool:
        """True when every object of it is there. RKE2 tries again while a kind is not known yet."""
        try:
            items = [item for item in yaml.safe_load_all(text) if item]
        except yaml.YAMLError as error:
            log.warning("additionalManifest: %s", error)
            return True
        whole = True
        for item in items:
            try:
                target = self._path(client, item)
                client.apply(target, item, "deploy@rke2")
            except (Refused, KeyError, TypeError) as error:
                log.warning("additionalManifest: %s", error)
                whole = False
        return whole

    def _path(self, client: Client, item: Object) -> str:
        version, meta = str(item["apiVersion"]), item["metadata"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if item["kind"] not in self.kinds.get(base, {}):
            found = client.request("GET", base)["resources"]
            self.kinds[base] = {
                one["kind"]: (one["name"], bool(one["namespaced"])) for one in found if "/" not in one["name"]
            }
        plural, spaced = self.kinds[base][item["kind"]]
        middle = f"/namespaces/{meta.get('namespace') or 'default'}" if spaced else ""
        return f"{base}{middle}/{plural}/{meta['name']}"

    def _provider(self, world: World, cluster: Object) -> None:
        """The cloud provider starts nodes off once its kubeconfig works at Harvester."""
        name = cluster["metadata"]["name"]
        waiting = [
            node
            for node in world.stores["guests"].values()
            if (node["metadata"].get("annotations") or {}).get("cluster.x-k8s.io/cluster-name") == name
            and any(taint["key"] == guests.UNINITIALIZED for taint in node["spec"].get("taints") or [])
        ]
        if not waiting:
            return
        why = provider_problem(world, cluster)
        if why:
            log.warning("harvester-cloud-provider of %s: %s", name, why)
            world.due.soon(3)
            return
        for chart in PROVIDER_CHARTS:
            body = {"apiVersion": "helm.cattle.io/v1", "kind": "HelmChart"}
            meta = {"name": chart, "namespace": "kube-system"}
            create(world.guest, CHARTS, {**body, "metadata": meta, "spec": {"bootstrap": False}})
        for node in waiting:
            guests.initialize(world.guest, node)


def provider_problem(world: World, cluster: Object) -> str:
    """Why the cloud provider cannot work: its Secret's kubeconfig is tried."""
    references = values_of(rke(cluster), "cloud-provider-config")
    if not references:
        return "cloud-provider-config is not set"
    for reference in references:
        key = reference.removeprefix("secret://").replace(":", "/", 1)
        secret = world.stores["secrets"].get(key) or {}
        text = base64.b64decode((secret.get("data") or {}).get("credential", "")).decode(errors="replace")
        space = _space(text)
        try:
            driver.allowed(text, space, "get")
        except driver.Unusable as error:
            return str(error)
    return ""


def _space(kubeconfig: str) -> str:
    """The namespace of the kubeconfig's context: where the cluster's virtual machines are."""
    try:
        return str(yaml.safe_load(kubeconfig)["contexts"][0]["context"].get("namespace") or "default")
    except (yaml.YAMLError, KeyError, IndexError, TypeError, AttributeError):
        return "default"
