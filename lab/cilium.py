# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Load balancer addresses as Cilium gives them: only what is asked for by class and annotation, out of a pool."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from lab.kube import Client, Object
from lab.mirror import Store

CLASS = "io.cilium/l2-announcer"
WANTED = "lbipam.cilium.io/ips"
PATHS = {"services": "/api/v1/services", "pools": "/apis/cilium.io/v2/ciliumloadbalancerippools"}


def act(client: Client, stores: Mapping[str, Store]) -> None:
    services = sorted(stores["services"].values(), key=lambda item: str(item["metadata"]["creationTimestamp"]))
    taken: dict[str, str] = {}
    for service in services:
        given = addresses(service, stores["pools"].values())
        meta = service["metadata"]
        name = f"{meta['namespace']}/{meta['name']}"
        # an address belongs to the Service that had it first
        given = [address for address in given if taken.setdefault(address, name) == name]
        status = service.get("status", {}).get("loadBalancer", {})
        now = [entry["ip"] for entry in status.get("ingress") or []]
        if now != given and (given or service["spec"].get("type") == "LoadBalancer"):
            path = f"/api/v1/namespaces/{meta['namespace']}/services/{meta['name']}/status"
            ingress = [{"ip": address, "ipMode": "VIP"} for address in given]
            client.merge(path, {"status": {"loadBalancer": {"ingress": ingress or None}}})


def addresses(service: Object, pools: Iterable[Object]) -> list[str]:
    """The addresses that a Service is to have."""
    spec, annotations = service["spec"], service["metadata"].get("annotations", {})
    if spec.get("type") != "LoadBalancer" or spec.get("loadBalancerClass") != CLASS:
        return []
    asked = [word.strip() for word in annotations.get(WANTED, "").split(",") if word.strip()]
    usable = [pool for pool in pools if not pool["spec"].get("disabled") and _selects(pool, service)]
    return [address for address in asked if any(holds(pool, address) for pool in usable)]


def holds(pool: Object, address: str) -> bool:
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        return False
    for block in pool["spec"].get("blocks") or []:
        if "cidr" in block and wanted in ipaddress.ip_network(block["cidr"], strict=False):
            return True
        if "start" in block:
            start, stop = (
                ipaddress.ip_address(block[end]) for end in ("start", "stop" if "stop" in block else "start")
            )
            if int(start) <= int(wanted) <= int(stop):
                return True
    return False


def _selects(pool: Object, service: Object) -> bool:
    selector = pool["spec"].get("serviceSelector") or {}
    labels = service["metadata"].get("labels") or {}
    return all(labels.get(word) == value for word, value in (selector.get("matchLabels") or {}).items())
