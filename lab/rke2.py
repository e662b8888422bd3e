# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What stands in for RKE2's helm-controller: the HelmChartConfig of Traefik becomes objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab import traefik
from lab.kube import Client, Refused
from lab.mirror import Store

MANAGER = "helm"
CONTROLLER = "traefik.io/gateway-controller"
PATHS = {
    "charts": "/apis/helm.cattle.io/v1/helmcharts",
    "configs": "/apis/helm.cattle.io/v1/helmchartconfigs",
    "classes": "/apis/gateway.networking.k8s.io/v1/gatewayclasses",
}
RELEASE = f"{traefik.NAMESPACE}/{traefik.NAME}"


class HelmController:
    """Keeps what it applied last, so that an unchanged HelmChartConfig costs nothing."""

    def __init__(self) -> None:
        self.applied: str | None = None

    def act(self, client: Client, stores: Mapping[str, Store]) -> None:
        config = stores["configs"].get(RELEASE)
        text = str(config["spec"].get("valuesContent") or "") if config else ""
        if RELEASE in stores["charts"] and text != self.applied:
            self._install(client, stores, text)

    def _install(self, client: Client, stores: Mapping[str, Store], text: str) -> None:
        try:
            given = traefik.values(text)
            daemon_set, service = traefik.daemon_set(given), traefik.service(given)
            wanted, dashboard = traefik.gateway_class(given), traefik.dashboard(given)
        except (traefik.BadValues, KeyError, TypeError, AttributeError) as error:
            self.applied = text
            _condition(client, "Failed", "True", f"helm upgrade failed: {type(error).__name__}: {error}")
            return
        base = f"namespaces/{traefik.NAMESPACE}"
        try:
            client.apply(f"/apis/apps/v1/{base}/daemonsets/{traefik.NAME}", daemon_set, MANAGER)
            if service is not None:
                client.apply(f"/api/v1/{base}/services/{traefik.NAME}", service, MANAGER)
            else:
                client.delete(f"/api/v1/{base}/services/{traefik.NAME}")
            for name, item in stores["classes"].items():
                if item["spec"]["controllerName"] == CONTROLLER and (
                    wanted is None or name != wanted["metadata"]["name"]
                ):
                    client.delete(f"{PATHS['classes']}/{name}")
            if wanted is not None:
                client.apply(f"{PATHS['classes']}/{wanted['metadata']['name']}", wanted, MANAGER)
            route = f"/apis/traefik.io/v1alpha1/{base}/ingressroutes/{traefik.DASHBOARD}"
            if dashboard is not None:
                client.apply(route, dashboard, MANAGER)
            else:
                client.delete(route)
        except Refused as error:
            # server-side apply answers 500 to a value of the wrong type
            if error.status not in {400, 422} and "typed patch object" not in str(error):
                raise
            self.applied = text
            _condition(client, "Failed", "True", f"helm upgrade failed: {error}")
            return
        self.applied = text
        _condition(client, "Failed", "False", "")


def _condition(client: Client, kind: str, status: str, message: str) -> None:
    path = f"/apis/helm.cattle.io/v1/namespaces/{traefik.NAMESPACE}/helmcharts/{traefik.NAME}"
    body: dict[str, Any] = {"jobName": f"helm-install-{traefik.NAME}"}
    body["conditions"] = [{"type": kind, "status": status, "reason": "Job", "message": message}]
    client.merge(f"{path}/status", {"status": body})
