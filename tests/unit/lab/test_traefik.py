# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What Traefik's values become: objects and a command line."""

from __future__ import annotations

from typing import Any

import pytest

from lab import traefik

VALUES = """
providers: {kubernetesGateway: {enabled: true}}
service:
  annotations: {lbipam.cilium.io/ips: 198.18.1.2}
  spec: {type: LoadBalancer, loadBalancerClass: io.cilium/l2-announcer}
deployment:
  podAnnotations: {root-ca: abc}
  initContainers: [{name: combine-ca, image: alpine}]
  additionalVolumes: [{name: combined-ca, emptyDir: {}}]
additionalVolumeMounts: [{name: combined-ca, mountPath: /combined-ca}]
env: [{name: SSL_CERT_FILE, value: /combined-ca/ca.crt}]
ports: {ssh: {port: 2222, exposedPort: 22, expose: {default: true}}}
"""


def test_nothing_configured_is_what_rke2_installs() -> None:
    given = traefik.values("")
    service = traefik.service(given)
    assert service is not None and service["spec"]["type"] == "ClusterIP"
    assert traefik.gateway_class(given) is None
    assert traefik.dashboard(given) is None
    said = traefik.arguments(given)
    assert "--entryPoints.websecure.address=:8443/tcp" in said and "--entryPoints.websecure.http.tls=true" in said
    assert "--providers.kubernetescrd.ingressClass=traefik" in said
    assert not [flag for flag in said if "kubernetesgateway" in flag or "redirections" in flag]


def test_values_reach_the_objects() -> None:
    given = traefik.values(VALUES)
    service, daemons, klass = traefik.service(given), traefik.daemon_set(given), traefik.gateway_class(given)
    assert service is not None and klass is not None
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["loadBalancerClass"] == "io.cilium/l2-announcer"
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"web": 80, "websecure": 443, "ssh": 22}
    assert klass["metadata"]["name"] == "traefik"
    template = daemons["spec"]["template"]
    assert template["metadata"]["annotations"]["root-ca"] == "abc"
    assert [container["name"] for container in template["spec"]["initContainers"]] == ["combine-ca"]
    container = template["spec"]["containers"][0]
    assert {"name": "SSL_CERT_FILE", "value": "/combined-ca/ca.crt"} in container["env"]
    assert "--entryPoints.ssh.address=:2222/tcp" in container["args"]


def flags(text: str) -> dict[str, str]:
    """The command line without its dashes; a flag without a value is one of its own."""
    pairs = (flag.removeprefix("--").partition("=") for flag in traefik.arguments(traefik.values(text)))
    return {name: value for name, _, value in pairs}


def test_a_null_takes_a_port_away() -> None:
    assert "entryPoints.web.address" not in flags("ports: {web: null}")


def test_an_entry_point_that_leads_to_another() -> None:
    said = flags("ports: {web: {http: {redirections: {entryPoint: {to: websecure, scheme: https, permanent: true}}}}}")
    words = "entryPoints.web.http.redirections.entryPoint"
    assert {name.removeprefix(f"{words}."): value for name, value in said.items() if name.startswith(words)} == {
        "to": ":443",
        "scheme": "https",
        "permanent": "true",
    }
    # where charts up to 38 had it
    assert "redirections" not in str(flags("ports: {web: {redirections: {entryPoint: {to: websecure}}}}"))


def test_nowhere_to_lead_to_is_an_error() -> None:
    with pytest.raises(traefik.BadValues, match="Cannot redirect web to tls"):
        flags("ports: {web: {http: {redirections: {entryPoint: {to: tls}}}}}")


def test_timeouts_and_metrics() -> None:
    said = flags("""
        ports: {websecure: {transport: {respondingTimeouts: {readTimeout: 1800s, idleTimeout: 180s}}}}
        metrics: {prometheus: {addRoutersLabels: true, addServicesLabels: false}}
    """)
    timeouts = "entryPoints.websecure.transport.respondingTimeouts"
    assert said[f"{timeouts}.readTimeout"] == "1800s" and f"{timeouts}.writeTimeout" not in said
    assert said["metrics.prometheus.entrypoint"] == "metrics"
    assert said["metrics.prometheus.addRoutersLabels"] == "true"
    assert said["metrics.prometheus.addServicesLabels"] == "false"
    assert "metrics.prometheus" not in flags("metrics: {prometheus: null}")


def test_a_gateways_address_is_the_services() -> None:
    on = "providers: {kubernetesGateway: {enabled: true, statusAddress: {service: %s}}}"
    address = "providers.kubernetesgateway.statusaddress.service"
    assert flags(on % "{}")[f"{address}.name"] == "rke2-traefik"
    assert flags(on % "{}")[f"{address}.namespace"] == "kube-system"
    assert flags(on % "{name: other}")[f"{address}.name"] == "other"
    assert f"{address}.name" not in flags(on % "{enabled: false}")


def test_the_dashboard_needs_a_route_with_the_class() -> None:
    route = traefik.dashboard(traefik.values("ingressRoute: {dashboard: {enabled: true, matchRule: PathPrefix(`/`)}}"))
    assert route is not None
    assert route["metadata"]["annotations"] == {"kubernetes.io/ingress.class": "traefik"}
    assert route["spec"]["entryPoints"] == ["traefik"]
    assert route["spec"]["routes"][0]["match"] == "PathPrefix(`/`)"
    with pytest.raises(traefik.BadValues, match="without enabling"):
        traefik.dashboard(traefik.values("{api: {dashboard: false}, ingressRoute: {dashboard: {enabled: true}}}"))


def test_the_pods_are_bounded() -> None:
    pod: dict[str, Any] = traefik.daemon_set(traefik.values(""))["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize("text", ["a: [", "- a"])
def test_bad_values_fail_as_with_helm(text: str) -> None:
    with pytest.raises(traefik.BadValues):
        traefik.values(text)
