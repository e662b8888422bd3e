# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What Traefik's values become, and the status that its rules give."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lab import gateway, traefik

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
    assert traefik.entry_points(given) == {8080, 8000, 8443, 9100}


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
    assert 2222 in traefik.entry_points(given)


def test_a_null_takes_a_port_away() -> None:
    assert 8000 not in traefik.entry_points(traefik.values("ports: {web: null}"))


@pytest.mark.parametrize("text", ["a: [", "- a"])
def test_bad_values_fail_as_with_helm(text: str) -> None:
    with pytest.raises(traefik.BadValues):
        traefik.values(text)


GATEWAY: dict[str, Any] = {
    "metadata": {"name": "g", "namespace": "n", "generation": 1},
    "spec": {
        "gatewayClassName": "traefik",
        "listeners": [
            {
                "name": "https",
                "port": 8443,
                "protocol": "HTTPS",
                "hostname": "a.example.com",
                "tls": {"certificateRefs": [{"name": "tls"}]},
            }
        ],
    },
}
SECRETS = {"n/tls": {"data": {"tls.crt": "eA==", "tls.key": "eA=="}}}
ROUTE: dict[str, Any] = {
    "metadata": {"name": "r", "namespace": "n"},
    "spec": {
        "parentRefs": [{"name": "g"}],
        "hostnames": ["a.example.com"],
        "rules": [{"backendRefs": [{"name": "web", "port": 80}]}],
    },
}
SERVICES = {"n/web": {"spec": {"ports": [{"port": 80}]}}}


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {entry["type"]: entry["status"] for entry in status["conditions"]}


def judged(item: dict[str, Any], secrets: dict[str, Any]) -> dict[str, Any]:
    return gateway.judge(item, secrets, {8000, 8443}, [{"type": "IPAddress", "value": "198.18.1.2"}])


def test_a_good_gateway_is_programmed() -> None:
    status = judged(GATEWAY, SECRETS)
    assert conditions(status) == {"Accepted": "True", "Programmed": "True"}
    assert status["addresses"][0]["value"] == "198.18.1.2"


def test_port_443_is_no_entry_point() -> None:
    wrong = copy.deepcopy(GATEWAY)
    wrong["spec"]["listeners"][0]["port"] = 443
    status = judged(wrong, SECRETS)
    assert conditions(status) == {"Accepted": "False", "Programmed": "False"}
    assert "no matching entryPoint for port 443" in status["conditions"][0]["message"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"certificateRefs": []}, "One TLS CertificateRef"),
        ({"certificateRefs": [{"name": "other"}]}, "secret n/other not found"),
        ({"certificateRefs": [{"name": "tls", "namespace": "m"}]}, "ReferenceGrant"),
    ],
)
def test_the_certificate_must_be_there(change: dict[str, Any], said: str) -> None:
    wrong = copy.deepcopy(GATEWAY)
    wrong["spec"]["listeners"][0]["tls"] = change
    status = judged(wrong, SECRETS)
    assert conditions(status)["Programmed"] == "False" and said in status["conditions"][0]["message"]


def route_conditions(route: dict[str, Any], services: dict[str, Any] | None = None) -> list[dict[str, str]]:
    statuses = {"n/g": judged(GATEWAY, SECRETS)}
    made = gateway.judge_route(route, {"n/g": GATEWAY}, statuses, SERVICES if services is None else services)
    return [conditions(parent) for parent in made]


def test_routes() -> None:
    assert route_conditions(ROUTE) == [{"Accepted": "True", "ResolvedRefs": "True"}]
    assert route_conditions(ROUTE, {}) == [{"Accepted": "True", "ResolvedRefs": "False"}]
    stranger = copy.deepcopy(ROUTE)
    stranger["spec"]["hostnames"] = ["b.example.com"]
    assert route_conditions(stranger) == [{"Accepted": "False", "ResolvedRefs": "True"}]
    elsewhere = copy.deepcopy(ROUTE)
    elsewhere["spec"]["parentRefs"] = [{"name": "other"}]
    assert route_conditions(elsewhere) == []
