# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What the role ``service`` makes of real descriptions beside their own templates: policies and monitoring."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import ROOT, Play, rendered

SCHEMA = ROOT.parent / "shared" / "crds" / "cilium.io" / "ciliumnetworkpolicies.cilium.io.yaml"
ROLES = (*(f"harvester_rke2.platform.{name}" for name in ("cert_manager", "cnpg", "vault", "traefik", "hubble")), "toy")
Objects = dict[tuple[str, str, str], dict[str, Any]]


def render(play: Play, folder: Path, policies: bool) -> Objects:
    return {
        (service, document["kind"], document["metadata"]["name"]): document
        for service, document in rendered(play, folder, *ROLES, platform_network_policies=policies)
    }


@pytest.fixture(scope="module")
def closed(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return render(play, tmp_path_factory.mktemp("closed"), policies=True)


def policy(objects: Objects, service: str) -> dict[str, Any]:
    return dict(objects[service, "CiliumNetworkPolicy", service.replace("_", "-")]["spec"])


def ports(rule: dict[str, Any]) -> list[str]:
    return [port["port"] for entry in rule.get("toPorts", []) for port in entry["ports"]]


def test_policies_are_off_by_default(play: Play, tmp_path: Path) -> None:
    assert not [key for key in render(play, tmp_path, policies=False) if key[1] == "CiliumNetworkPolicy"]


def test_what_the_description_names_is_open_and_nothing_else(closed: Objects) -> None:
    wanted = policy(closed, "cert_manager")
    assert [ports(rule) for rule in wanted["ingress"]] == [[], [], ["9402"]]
    assert [ports(rule) for rule in wanted["egress"]] == [[], [], ["53"], ["8200"]]
    [vault] = wanted["egress"][-1]["toEndpoints"]
    assert vault["matchLabels"] == {"k8s:io.kubernetes.pod.namespace": "vault"}


def test_pods_of_any_namespace_are_named_as_an_entity(closed: Objects) -> None:
    """A range of addresses, even 0.0.0.0/0, is never taken for pods by Cilium."""
    rule = policy(closed, "cnpg")["egress"][-1]
    assert rule["toEntities"] == ["cluster"] and ports(rule) == ["8000", "5432"]


def test_a_service_with_a_route_is_reached_by_traefik(closed: Objects) -> None:
    found = [
        endpoint.get("matchLabels", {}).get("k8s:app.kubernetes.io/name")
        for rule in policy(closed, "vault")["ingress"]
        for endpoint in rule.get("fromEndpoints", [])
    ]
    assert "rke2-traefik" in found and "prometheus" in found


def test_rke2s_own_namespace_stays_open(closed: Objects) -> None:
    assert not [key for key in closed if key[0] == "traefik" and key[1] == "CiliumNetworkPolicy"]


def test_a_route_without_a_login_of_its_own_stands_behind_basic_authentication(closed: Objects) -> None:
    """The Middleware is the route's own, so that each route's can become its own ForwardAuth."""
    [rule] = closed["hubble", "HTTPRoute", "hubble"]["spec"]["rules"]
    [reference] = rule["filters"]
    name = reference["extensionRef"]["name"]
    assert closed["hubble", "Middleware", name]["spec"]["basicAuth"]["secret"] == "hubble-basic-auth"
    assert not [key for key in closed if key[0] == "vault" and key[1] == "Middleware"], "it has a login"


@pytest.mark.skipif(not SCHEMA.exists(), reason="Cilium's schema lies beside the project only")
def test_policies_are_what_cilium_takes(closed: Objects) -> None:
    [version] = [v for v in yaml.safe_load(SCHEMA.read_text())["spec"]["versions"] if v["name"] == "v2"]
    # Without a look at the schema itself, whose patterns are Go's.
    judge = jsonschema.Draft202012Validator(version["schema"]["openAPIV3Schema"])
    found = [document for key, document in closed.items() if key[1] == "CiliumNetworkPolicy"]
    assert len(found) == 4
    for document in found:
        judge.validate(document)


def test_scrape_jobs_are_there_to_be_collected(closed: Objects) -> None:
    found = closed["vault", "ConfigMap", "vault-scrape"]
    assert found["metadata"]["labels"] == {"monitoring.harvester-rke2.io/collect": "prometheus"}
    [job] = yaml.safe_load(found["data"]["scrape-vault.yml"])["scrape_configs"]
    assert (job["job_name"], job["params"]) == ("vault", {"format": ["prometheus"]})


def test_a_service_that_is_one_role_folder_brings_all_of_its_own(closed: Objects) -> None:
    """Its own template is a Deployment and a Service (tests/data/roles/toy): the rest follows from its description."""
    assert {key[1:] for key in closed if key[0] == "toy"} == {
        ("Namespace", "toy"),
        ("ConfigMap", "platform-root-ca"),
        ("Deployment", "toy"),
        ("Service", "toy"),
        ("Gateway", "toy"),
        ("HTTPRoute", "toy"),
        ("CiliumNetworkPolicy", "toy"),
        ("ConfigMap", "toy-scrape"),
        ("ConfigMap", "toy-alerts"),
        ("ConfigMap", "configmap-dashboard-toy"),
    }
    dashboard = closed["toy", "ConfigMap", "configmap-dashboard-toy"]
    assert dashboard["metadata"]["annotations"] == {"monitoring.harvester-rke2.io/folder": "Services"}
    assert json.loads(dashboard["data"]["toy.json"])["uid"] == "toy"
    [group] = yaml.safe_load(closed["toy", "ConfigMap", "toy-alerts"]["data"]["rules-toy.yml"])["groups"]
    [rule] = group["rules"]
    assert rule["annotations"]["description"] == "{{ $labels.pod }} does not answer."
