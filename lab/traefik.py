# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What RKE2's chart of Traefik makes of its values: the objects, not Traefik itself."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import yaml

from lab.kube import Object

NAME = "rke2-traefik"
NAMESPACE = "kube-system"
IMAGE = "rancher/hardened-traefik:v3.6.16-build20260604"
SELECTOR = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": f"{NAME}-{NAMESPACE}"}
LABELS = {**SELECTOR, "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "rke2-traefik-39.0.900"}

# RKE2's own values on top of the chart's, as far as they are read here
DEFAULTS: Object = {
    "deployment": {"podAnnotations": {}, "podLabels": {}, "initContainers": [], "additionalVolumes": []},
    "env": [],
    "additionalVolumeMounts": [],
    "additionalArguments": [],
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [],
    "gatewayClass": {"enabled": True, "name": ""},
    "providers": {
        "kubernetesGateway": {"enabled": False},
        "kubernetesCRD": {"enabled": True, "ingressClass": "traefik"},
    },
    "service": {"enabled": True, "type": "ClusterIP", "spec": {}, "annotations": {}, "labels": {}},
    "ports": {
        "traefik": {"port": 8080, "exposedPort": 8080, "expose": {"default": False}},
        "web": {"port": 8000, "exposedPort": 80, "hostPort": 80, "expose": {"default": True}},
        "websecure": {"port": 8443, "exposedPort": 443, "hostPort": 443, "expose": {"default": True}},
        "metrics": {"port": 9100, "exposedPort": 9100, "expose": {"default": False}},
    },
}


class BadValues(Exception):
    """What Helm would say of these values."""


def values(text: str) -> Object:
    """The chart's values with a HelmChartConfig's on top, merged as Helm merges: a null takes a key away."""
    try:
        given = yaml.safe_load(text or "{}") or {}
    except yaml.YAMLError as error:
        raise BadValues(f"error converting YAML to JSON: {error}") from error
    if not isinstance(given, dict):
        raise BadValues("values must be a map")
    return merge(copy.deepcopy(DEFAULTS), given)


def merge(base: Object, over: Mapping[str, Any]) -> Object:
    for word, value in over.items():
        if value is None:
            base.pop(word, None)
        elif isinstance(value, dict) and isinstance(base.get(word), dict):
            merge(base[word], value)
        else:
            base[word] = value
    return base


def entry_points(given: Object) -> set[int]:
    """The ports that a Gateway's listeners may name."""
    return {int(port["port"]) for port in given["ports"].values() if port}


def gateway_class(given: Object) -> Object | None:
    if not given["providers"]["kubernetesGateway"].get("enabled") or not given["gatewayClass"].get("enabled"):
        return None
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": given["gatewayClass"].get("name") or "traefik", "labels": LABELS},
        "spec": {"controllerName": "traefik.io/gateway-controller"},
    }


def daemon_set(given: Object) -> Object:
    deployment = given["deployment"]
    ports = [
        {
            "name": name,
            "containerPort": port["port"],
            "protocol": port.get("protocol", "TCP"),
            **({"hostPort": port["hostPort"]} if port.get("hostPort") else {}),
        }
        for name, port in given["ports"].items()
        if port
    ]
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}]
    ping = {"path": "/ping", "port": given["ports"]["traefik"]["port"], "scheme": "HTTP"}
    pod: Object = {
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": 60,
        "nodeSelector": given["nodeSelector"],
        "tolerations": given["tolerations"],
        "priorityClassName": "system-cluster-critical",
        "securityContext": {"runAsGroup": 65532, "runAsNonRoot": True, "runAsUser": 65532},
        "initContainers": deployment["initContainers"],
        "containers": [
            {
                "name": NAME,
                "image": IMAGE,
                "args": [*arguments(given), *given["additionalArguments"]],
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                    *given["env"],
                ],
                "ports": ports,
                "readinessProbe": {
                    "httpGet": ping,
                    "initialDelaySeconds": 2,
                    "timeoutSeconds": 2,
                    "failureThreshold": 1,
                },
                "livenessProbe": {"httpGet": ping, "initialDelaySeconds": 2, "timeoutSeconds": 2},
                "volumeMounts": [*mounts, *given["additionalVolumeMounts"]],
            }
        ],
        "volumes": [
            {"name": "data", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            *deployment["additionalVolumes"],
        ],
    }
    annotations = {
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": str(given["ports"]["metrics"]["port"]),
        **deployment["podAnnotations"],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": LABELS},
        "spec": {
            "selector": {"matchLabels": SELECTOR},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {
                "metadata": {"labels": {**LABELS, **deployment["podLabels"]}, "annotations": annotations},
                "spec": pod,
            },
        },
    }


def arguments(given: Object) -> list[str]:
    made = [f"--entryPoints.{name}.address=:{port['port']}/tcp" for name, port in given["ports"].items() if port]
    made += [
        "--ping=true",
        "--api.dashboard=true",
        "--metrics.prometheus=true",
        "--metrics.prometheus.entrypoint=metrics",
    ]
    crd = given["providers"]["kubernetesCRD"]
    if crd.get("enabled"):
        made += ["--providers.kubernetescrd", f"--providers.kubernetescrd.ingressClass={crd['ingressClass']}"]
        if crd.get("allowCrossNamespace"):
            made.append("--providers.kubernetescrd.allowCrossNamespace=true")
    if given["providers"]["kubernetesGateway"].get("enabled"):
        made += ["--providers.kubernetesgateway"]
    return made


def service(given: Object) -> Object | None:
    wanted = given["service"]
    if not wanted["enabled"]:
        return None
    exposed = [
        {
            "name": name,
            "port": port.get("exposedPort", port["port"]),
            "targetPort": name,
            "protocol": port.get("protocol", "TCP"),
        }
        for name, port in given["ports"].items()
        if port and (port.get("expose") or {}).get("default")
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {**LABELS, **wanted["labels"]},
            "annotations": wanted["annotations"],
        },
        "spec": {
            "type": wanted["type"],
            "ipFamilyPolicy": "PreferDualStack",
            "selector": SELECTOR,
            "ports": exposed,
            **wanted["spec"],
        },
    }
