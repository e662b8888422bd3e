# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What RKE2's chart of Traefik makes of its values: objects, and the command line of the real Traefik in its pods.

The rules are those of chart 39: a key that the chart does not read there changes nothing, as in the chart.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import yaml

from lab.kube import Object

NAME = "rke2-traefik"
NAMESPACE = "kube-system"
DASHBOARD = f"{NAME}-dashboard"
IMAGE = "rancher/hardened-traefik:v3.6.16-build20260604"
SELECTOR = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": f"{NAME}-{NAMESPACE}"}
LABELS = {**SELECTOR, "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "rke2-traefik-39.0.900"}

# The chart's values with RKE2's own on top, as far as they are read here
DEFAULTS: Object = {
    "global": {"checkNewVersion": True},
    "deployment": {"podAnnotations": {}, "podLabels": {}, "initContainers": [], "additionalVolumes": []},
    "env": [],
    "additionalVolumeMounts": [],
    "additionalArguments": [],
    "resources": {},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [],
    "priorityClassName": "",
    "gatewayClass": {"enabled": True, "name": ""},
    "ingressClass": {"enabled": True},
    "api": {"dashboard": True},
    "ingressRoute": {
        "dashboard": {
            "enabled": False,
            "annotations": {},
            "matchRule": "PathPrefix(`/dashboard`) || PathPrefix(`/api`)",
            "services": [{"name": "api@internal", "kind": "TraefikService"}],
            "entryPoints": ["traefik"],
        },
    },
    "providers": {
        "kubernetesGateway": {"enabled": False, "statusAddress": {"service": {"enabled": True}}},
        "kubernetesCRD": {"enabled": True, "ingressClass": "traefik", "allowEmptyServices": True},
        "kubernetesIngress": {
            "enabled": True,
            "ingressClass": "traefik",
            "allowEmptyServices": True,
            "publishedService": {"enabled": True},
        },
    },
    "service": {"enabled": True, "type": "ClusterIP", "spec": {}, "annotations": {}, "labels": {}},
    "metrics": {"prometheus": {"entryPoint": "metrics"}},
    "logs": {"general": {"level": "INFO"}},
    "ports": {
        "traefik": {"port": 8080, "exposedPort": 8080, "expose": {"default": False}},
        "web": {"port": 8000, "exposedPort": 80, "hostPort": 80, "expose": {"default": True}},
        "websecure": {
            "port": 8443,
            "exposedPort": 443,
            "hostPort": 443,
            "expose": {"default": True},
            "http": {"tls": {"enabled": True}},
        },
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
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": 60,
        "nodeSelector": given["nodeSelector"],
        "tolerations": given["tolerations"],
        "priorityClassName": given["priorityClassName"],
        "securityContext": {
            "runAsGroup": 65532,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": deployment["initContainers"],
        "containers": [
            {
                "name": NAME,
                "image": IMAGE,
                "args": [*arguments(given), *given["additionalArguments"]],
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                    {"name": "USER", "value": "traefik"},
                    *given["env"],
                ],
                "ports": ports,
                "resources": given["resources"],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
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
    annotations = dict(deployment["podAnnotations"])
    prometheus = given["metrics"].get("prometheus")
    if prometheus:
        port = given["ports"][prometheus["entryPoint"]]["port"]
        annotations |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/path": "/metrics",
            "prometheus.io/port": str(port),
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
    """The chart's command line, in its order."""
    ports = {name: port for name, port in sorted(given["ports"].items()) if port}
    made = [] if given["global"].get("checkNewVersion") else ["--global.checkNewVersion=false"]
    for name, port in ports.items():
        made.append(f"--entryPoints.{name}.address=:{port['port']}/{port.get('protocol', 'TCP').lower()}")
        made += flags(f"entryPoints.{name}", port, "asDefault")
    made += flags("api", given["api"], "dashboard", "debug", "insecure")
    made.append("--ping=true")
    made += _metrics(given["metrics"].get("prometheus"))
    made += _providers(given)
    for name, port in ports.items():
        made += _entry_point(name, port, ports)
    made += flags("log", given["logs"]["general"], "format", "level")
    return made


def flags(path: str, given: Mapping[str, Any], *names: str) -> list[str]:
    """A flag for each of these keys that has a value."""
    found = {name: given[name] for name in names if given.get(name) not in (None, "")}
    return [f"--{path}.{name}={word(value)}" for name, value in found.items()]


def word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metrics(prometheus: Mapping[str, Any] | None) -> list[str]:
    if not prometheus:
        return []
    made = ["--metrics.prometheus=true", f"--metrics.prometheus.entrypoint={prometheus['entryPoint']}"]
    labels = ("addRoutersLabels", "addEntryPointsLabels", "addServicesLabels")
    return made + flags("metrics.prometheus", prometheus, *labels, "buckets")


def _providers(given: Object) -> list[str]:
    made = []
    providers, service_enabled = given["providers"], given["service"]["enabled"]
    custom, ingress, gateway = (providers[f"kubernetes{kind}"] for kind in ("CRD", "Ingress", "Gateway"))
    more = ("allowCrossNamespace", "allowExternalNameServices", "allowEmptyServices")
    if custom.get("enabled"):
        made += ["--providers.kubernetescrd", *flags("providers.kubernetescrd", custom, "ingressClass", *more)]
    if ingress.get("enabled"):
        made += ["--providers.kubernetesingress", *flags("providers.kubernetesingress", ingress, *more[1:])]
        if service_enabled and ingress["publishedService"].get("enabled"):
            made.append(f"--providers.kubernetesingress.ingressendpoint.publishedservice={NAMESPACE}/{NAME}")
        made += flags("providers.kubernetesingress", ingress, "ingressClass")
    if gateway.get("enabled"):
        made.append("--providers.kubernetesgateway")
        address = gateway.get("statusAddress") or {}
        made += flags("providers.kubernetesgateway.statusaddress", address, "ip", "hostname")
        if service_enabled and address.get("service", {}).get("enabled"):
            source = {"name": NAME, "namespace": NAMESPACE}
            source |= {key: value for key, value in address["service"].items() if key in source and value}
            made += flags("providers.kubernetesgateway.statusaddress.service", source, "name", "namespace")
    return made


def _entry_point(name: str, port: Mapping[str, Any], ports: Mapping[str, Any]) -> list[str]:
    path, http = f"entryPoints.{name}", port.get("http") or {}
    made = []
    redirection = (http.get("redirections") or {}).get("entryPoint")
    if redirection:
        if redirection["to"] not in ports:
            raise BadValues(f"ERROR: Cannot redirect {name} to {redirection['to']}: entryPoint not found")
        made.append(f"--{path}.http.redirections.entryPoint.to=:{ports[redirection['to']]['exposedPort']}")
        made += flags(f"{path}.http.redirections.entryPoint", redirection, "scheme", "priority", "permanent")
    if (http.get("tls") or {}).get("enabled"):
        made.append(f"--{path}.http.tls=true")
    timeouts = (port.get("transport") or {}).get("respondingTimeouts") or {}
    return made + flags(f"{path}.transport.respondingTimeouts", timeouts, "readTimeout", "writeTimeout", "idleTimeout")


def dashboard(given: Object) -> Object | None:
    """The IngressRoute by which the dashboard answers on an entry point; without it there is none."""
    wanted = given["ingressRoute"]["dashboard"]
    if not wanted.get("enabled"):
        return None
    if not given["api"].get("dashboard"):
        raise BadValues("ERROR: Cannot create an IngressRoute for the dashboard without enabling api.dashboard")
    annotations = dict(wanted["annotations"])
    custom = given["providers"]["kubernetesCRD"]
    if given["ingressClass"].get("enabled") and custom.get("enabled") and custom.get("ingressClass"):
        annotations["kubernetes.io/ingress.class"] = custom["ingressClass"]
    return {
        "apiVersion": "traefik.io/v1alpha1",
        "kind": "IngressRoute",
        "metadata": {"name": DASHBOARD, "namespace": NAMESPACE, "labels": LABELS, "annotations": annotations},
        "spec": {
            "entryPoints": wanted["entryPoints"],
            "routes": [{"match": wanted["matchRule"], "kind": "Rule", "services": wanted["services"]}],
        },
    }


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
