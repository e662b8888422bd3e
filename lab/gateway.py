# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Gateway and HTTPRoute status as Traefik 3.6 writes it, until the real Traefik runs in its pods.

The rules are Traefik's: a listener's port is one of its own entry points (not the Service's 443), the certificate is a
TLS Secret of the Gateway's namespace, a route's backend is a Service with that port.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from lab.kube import Client, Object
from lab.mirror import Store

BASE = "/apis/gateway.networking.k8s.io/v1"
CONTROLLER = "traefik.io/gateway-controller"
ROUTES = [{"group": "gateway.networking.k8s.io", "kind": kind} for kind in ("HTTPRoute", "GRPCRoute")]


def condition(kind: str, good: bool, reason: str, message: str, item: Object) -> Object:
    return {
        "type": kind,
        "status": "True" if good else "False",
        "reason": reason,
        "message": message,
        "observedGeneration": item["metadata"].get("generation", 1),
        "lastTransitionTime": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def act(client: Client, stores: Mapping[str, Store], classes: set[str], entry_points: set[int]) -> None:
    ours = {name: item for name, item in stores["gateways"].items() if item["spec"]["gatewayClassName"] in classes}
    service = stores["services"].get("kube-system/rke2-traefik", {})
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    addresses = [{"type": "IPAddress", "value": entry["ip"]} for entry in ingress]
    wanted = {name: judge(item, stores["secrets"], entry_points, addresses) for name, item in ours.items()}
    for route in stores["routes"].values():
        status = judge_route(route, ours, wanted, stores["services"])
        others = [part for part in route.get("status", {}).get("parents") or [] if part["controllerName"] != CONTROLLER]
        _write(client, "httproutes", route, {"parents": [*others, *status]})
    for name, item in ours.items():
        _write(client, "gateways", item, wanted[name])


def _write(client: Client, plural: str, item: Object, status: Object) -> None:
    if _plain(item.get("status", {})) == _plain(status):
        return
    meta = item["metadata"]
    path = f"{BASE}/namespaces/{meta['namespace']}/{plural}/{meta['name']}/status"
    client.merge(path, {"status": status})


def _plain(status: object) -> object:
    """Without the times, which alone are no change."""
    if isinstance(status, dict):
        return {word: _plain(value) for word, value in status.items() if word != "lastTransitionTime" and value != []}
    if isinstance(status, list):
        return [_plain(value) for value in status]
    return status


def judge(item: Object, secrets: Store, entry_points: set[int], addresses: list[Object]) -> Object:
    listeners = [_listener(item, listener, secrets, entry_points) for listener in item["spec"]["listeners"]]
    good = all(entry["status"] == "True" for listener in listeners for entry in listener["conditions"])
    if not good:
        why = "; ".join(
            entry["message"] for listener in listeners for entry in listener["conditions"] if entry["status"] == "False"
        )
        accepted = condition("Accepted", False, "ListenersNotValid", f"All Listeners must be valid: {why}", item)
        programmed = condition("Programmed", False, "Invalid", "All Listeners must be valid", item)
        return {"conditions": [accepted, programmed], "listeners": listeners, "addresses": []}
    return {
        "conditions": [
            condition("Accepted", True, "Accepted", "Gateway successfully scheduled", item),
            condition("Programmed", True, "Programmed", "Gateway successfully scheduled", item),
        ],
        "listeners": listeners,
        "addresses": addresses,
    }


def _listener(item: Object, listener: Object, secrets: Store, entry_points: set[int]) -> Object:
    made: Object = {"name": listener["name"], "attachedRoutes": 0, "supportedKinds": ROUTES}
    port, protocol = listener["port"], listener["protocol"]
    if port not in entry_points:
        why = f'Cannot find entryPoint for Gateway: no matching entryPoint for port {port} and protocol "{protocol}"'
        made["conditions"] = [condition("Accepted", False, "PortUnavailable", why, item)]
        return made
    if protocol in {"HTTPS", "TLS"}:
        problem = _certificate_problem(item, listener, secrets)
        if problem:
            made["conditions"] = [condition("ResolvedRefs", False, "InvalidCertificateRef", problem, item)]
            return made
    made["conditions"] = [
        condition("Accepted", True, "Accepted", "No error found", item),
        condition("ResolvedRefs", True, "ResolvedRefs", "No error found", item),
        condition("Programmed", True, "Programmed", "No error found", item),
    ]
    return made


def _certificate_problem(item: Object, listener: Object, secrets: Store) -> str:
    references = (listener.get("tls") or {}).get("certificateRefs") or []
    if not references:
        return "One TLS CertificateRef is required in Terminate mode"
    namespace = item["metadata"]["namespace"]
    for reference in references:
        place = reference.get("namespace", namespace)
        if place != namespace:
            return f"Reference to the Secret {place}/{reference['name']} is not permitted by a ReferenceGrant"
        secret = secrets.get(f"{place}/{reference['name']}")
        if secret is None:
            return f"Error while retrieving certificate: secret {place}/{reference['name']} not found"
        if not {"tls.crt", "tls.key"} <= set(secret.get("data") or {}):
            return f"Error while retrieving certificate: secret {place}/{reference['name']} has no tls.crt and tls.key"
    return ""


def judge_route(route: Object, gateways: Store, statuses: Mapping[str, Object], services: Store) -> list[Object]:
    """Status of each parent of ours; the listeners' count of routes goes up on the way."""
    made: list[Object] = []
    namespace = route["metadata"]["namespace"]
    for parent in route["spec"].get("parentRefs") or []:
        name = f"{parent.get('namespace', namespace)}/{parent['name']}"
        if name not in gateways:
            continue
        listeners = _matching(route, parent, gateways[name])
        for listener in listeners:
            for entry in statuses[name]["listeners"]:
                if entry["name"] == listener["name"]:
                    entry["attachedRoutes"] += 1
        accepted = (
            condition("Accepted", True, "Accepted", "", route)
            if listeners
            else condition("Accepted", False, "NoMatchingParent", "No matching listener of the Gateway", route)
        )
        problem = _backend_problem(route, services)
        resolved = condition(
            "ResolvedRefs", not problem, "BackendNotFound" if problem else "ResolvedRefs", problem, route
        )
        made.append({"parentRef": parent, "controllerName": CONTROLLER, "conditions": [accepted, resolved]})
    return made


def _matching(route: Object, parent: Object, gateway: Object) -> list[Object]:
    found = []
    for listener in gateway["spec"]["listeners"]:
        if parent.get("sectionName") not in (None, listener["name"]) or parent.get("port") not in (
            None,
            listener["port"],
        ):
            continue
        allowed = ((listener.get("allowedRoutes") or {}).get("namespaces") or {}).get("from", "Same")
        if allowed == "Same" and route["metadata"]["namespace"] != gateway["metadata"]["namespace"]:
            continue
        if _hosts_meet(listener.get("hostname"), route["spec"].get("hostnames") or []):
            found.append(listener)
    return found


def _hosts_meet(listener: str | None, hosts: list[str]) -> bool:
    if not listener or not hosts:
        return True

    def covers(one: str, other: str) -> bool:
        return one == other or (one.startswith("*.") and other.endswith(one[1:]))

    return any(covers(listener, host) or covers(host, listener) for host in hosts)


def _backend_problem(route: Object, services: Store) -> str:
    namespace = route["metadata"]["namespace"]
    for rule in route["spec"].get("rules") or []:
        for backend in rule.get("backendRefs") or []:
            if backend.get("kind", "Service") != "Service":
                continue
            place = backend.get("namespace", namespace)
            service = services.get(f"{place}/{backend['name']}")
            if service is None:
                return f"Cannot load HTTPBackendRef {place}/{backend['name']}: service not found"
            if not any(port["port"] == backend.get("port") for port in service["spec"].get("ports") or []):
                return f"Cannot load HTTPBackendRef {place}/{backend['name']}: port {backend.get('port')} not found"
    return ""
