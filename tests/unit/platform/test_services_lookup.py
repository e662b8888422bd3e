# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The lookup of the descriptions, asked by the real ansible-playbook: one run, one host for each question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import ROOT, Play

ROLES = ROOT / "tests" / "data" / "roles"
SHARED = {"platform_domain": "lab.example.com", "platform_cluster_name": "platform-lab"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "defaults": {"ask": "query('harvester_rke2.platform.services')"},
    "phase": {"ask": "query('harvester_rke2.platform.services', phase=2)"},
    "named": {"ask": "query('harvester_rke2.platform.services', 'vault', 'traefik')"},
    "named_though_disabled": {
        "ask": "query('harvester_rke2.platform.services', 'vault')",
        "vault_enabled": False,
        "vault_pki_enabled": False,
    },
    "disabled": {
        "ask": "query('harvester_rke2.platform.services')",
        "vault_enabled": "{{ not true }}",
        "vault_pki_enabled": "no",
    },
    "inventory": {
        "ask": "query('harvester_rke2.platform.services', 'vault', 'cert_manager')",
        "vault_namespace": "secrets",
        "vault_host": "{{ prefix }}-vault",
        "prefix": "our",
        "vault_snapshot_keep": 9,
        "platform_domain": "other.example.com",
    },
    "pair": {"ask": "query('harvester_rke2.platform.services', 'harbor')", "harbor_core_maximum": 7},
    "unknown": {"ask": "query('harvester_rke2.platform.services', 'nothing')"},
    "neither": {"ask": "query('harvester_rke2.platform.services')", "vault_enabled": "perhaps"},
    "undefined": {"ask": "query('harvester_rke2.platform.services', 'vault')", "vault_host": "{{ nowhere }}"},
    "wrong_name": {"ask": "query('harvester_rke2.platform.services', 'misnamed')"},
    "shadow": {"ask": "query('harvester_rke2.platform.services', 'traefik')"},
}
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        content: "{{ lookup('ansible.builtin.vars', 'ask') | to_json }}"
        dest: "{{ playbook_dir }}/{{ inventory_hostname }}.json"
        mode: "0600"
"""


@pytest.fixture(scope="module")
def answers(play: Play, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the lookup returned, or the words that it failed with."""
    folder = tmp_path_factory.mktemp("services")
    hosts = {
        name: {**SHARED, **question, "ask": "{{ " + question["ask"] + " }}"} for name, question in QUESTIONS.items()
    }
    # A description whose name is not its role's, and a role that bears the name of one of the collection's.
    for role, name in (("misnamed", "other"), ("traefik", "traefik")):
        (folder / "roles" / role / "meta").mkdir(parents=True)
        (folder / "roles" / role / "meta" / "service.yml").write_text(
            f"{{name: {name}, summary: Another, phase: 9, namespace: x, pod_security: restricted}}\n"
        )
        (folder / "roles" / role / "defaults").mkdir()
        (folder / "roles" / role / "defaults" / "main.yml").write_text("misnamed_enabled: false\n")
    result = play(folder, PLAYBOOK, hosts)
    found: dict[str, Any] = {"output": result.stdout + result.stderr}
    for name in QUESTIONS:
        written = folder / f"{name}.json"
        failed = [line for line in result.stdout.splitlines() if line.startswith(f"fatal: [{name}]")]
        assert written.exists() or failed, found["output"]
        found[name] = (
            json.loads(written.read_text()) if written.exists() else json.loads(failed[0].partition("=> ")[2])["msg"]
        )
    return found


def names(services: list[dict[str, Any]]) -> list[str]:
    """Their names, in their order."""
    return [service["name"] for service in services]


def test_all_enabled_ones_by_phase_and_name(answers: dict[str, Any]) -> None:
    """The collection's and those of roles_path; those that are an offer only are left out."""
    services = answers["defaults"]
    assert names(services) == [
        service["name"] for service in sorted(services, key=lambda service: (service["phase"], service["name"]))
    ]
    assert {"traefik", "cert_manager", "node_labeler", "vault", "vault_pki", "harbor", "minio"} <= set(names(services))
    assert "external_secrets" not in names(services), "its own default switches it off"
    assert all(service["enabled"] for service in services)


def test_services_of_one_namespace_agree_on_its_pod_security(answers: dict[str, Any]) -> None:
    """Each of them applies the namespace's labels."""
    levels: dict[str, set[str]] = {}
    for service in answers["defaults"]:
        levels.setdefault(service["namespace"], set()).add(service["pod_security"])
    assert {name for name, found in levels.items() if len(found) > 1} == set()


def test_one_phase(answers: dict[str, Any]) -> None:
    """Only its services."""
    assert names(answers["phase"]) == ["vault", "vault_pki"]


def test_named_ones(answers: dict[str, Any]) -> None:
    """Only these, ordered all the same."""
    assert names(answers["named"]) == ["traefik", "vault"]


def test_disabled_ones_are_left_out(answers: dict[str, Any]) -> None:
    """Whether a bool, text or an expression switches them off."""
    assert not {"vault", "vault_pki"} & set(names(answers["disabled"]))
    assert "traefik" in names(answers["disabled"])


def test_a_named_one_is_returned_though_disabled(answers: dict[str, Any]) -> None:
    """Its removal needs the description; it says that it is disabled."""
    (service,) = answers["named_though_disabled"]
    assert (service["name"], service["enabled"]) == ("vault", False)


def test_the_users_inventory_beats_the_defaults(answers: dict[str, Any]) -> None:
    """Text, expressions over other variables, numbers that stay numbers; what is not given keeps its default."""
    cert_manager, vault = answers["inventory"]
    assert (vault["namespace"], vault["routes"][0]["host"], vault["pool"]) == ("secrets", "our-vault", "database")
    assert vault["backup"][0]["keep"] == 9
    assert vault["oidc"][0]["redirect_uris"][0].startswith("https://our-vault.other.example.com/")
    assert cert_manager["namespace"] == "cert-manager"


def test_what_is_added(answers: dict[str, Any]) -> None:
    """The role's folder, its own task files, whether it has templates of objects, its name as Kubernetes takes it."""
    vault = next(service for service in answers["defaults"] if service["name"] == "vault")
    assert Path(vault["path"]) == ROOT / "roles" / "vault"
    assert "configure" in vault["hooks"] and "main" not in vault["hooks"]
    assert vault["objects"] is True
    assert "cert-manager" in [service["slug"] for service in answers["defaults"]]
    harbor = next(service for service in answers["defaults"] if service["name"] == "harbor")
    assert (harbor["hooks"], harbor["objects"]) == (["configure"], False)


def test_harbor_can_be_said(answers: dict[str, Any]) -> None:
    """A service of a later phase, with everything that a description knows, from a role on roles_path."""
    (harbor,) = answers["pair"]
    assert Path(harbor["path"]) == ROLES / "harbor"
    used = {key for key, value in harbor.items() if value not in ([], {}, None, "", False)}
    assert used >= {
        *("charts", "secrets", "postgresql", "valkey", "buckets", "routes", "oidc", "network", "autoscale", "metrics"),
        *("images", "backup", "left_to", "waits_for", "checks", "requires"),
    }
    lengths = {key: rule.get("length") for secret in harbor["secrets"] for key, rule in secret["keys"].items()}
    assert (lengths["secretKey"], lengths["secret"], lengths["CSRF_KEY"]) == (16, 16, 32)
    owner = next(secret for secret in harbor["secrets"] if secret["name"] == "harbor-pg-owner")
    assert (owner["type"], owner["namespaces"]) == ("kubernetes.io/basic-auth", ["harbor", "database"])
    assert harbor["routes"][0]["rules"] == [
        {"paths": ["/api/", "/service/", "/v2/", "/c/"], "service": "harbor-core", "port": 80},
        {"paths": ["/"], "service": "harbor-portal", "port": 80},
    ]
    assert [(item["name"], item["minimum"], item["maximum"]) for item in harbor["autoscale"]] == [
        ("harbor-core", 2, 7),
        ("harbor-registry", 2, 7),
        ("harbor-trivy", 1, 4),
    ]
    (valkey,) = harbor["valkey"]
    assert (valkey["replicas"], valkey["sentinels"], valkey["master"]) == (3, 3, "mymaster")
    assert harbor["postgresql"][0]["parameters"] == {"max_connections": "2000"}
    assert harbor["oidc"][0]["redirect_uris"] == ["https://harbor.lab.example.com/c/oidc/callback"]


def test_a_role_on_roles_path_does_not_replace_ours(answers: dict[str, Any]) -> None:
    """Its name is taken."""
    (traefik,) = answers["shadow"]
    assert (traefik["phase"], Path(traefik["path"])) == (1, ROOT / "roles" / "traefik")


def test_an_unknown_name(answers: dict[str, Any]) -> None:
    """Those that there are, are named."""
    expected = "No service is named nothing; the services are alertmanager, alloy, cert_manager, "
    assert expected in answers["unknown"]


def test_a_switch_that_is_neither_on_nor_off(answers: dict[str, Any]) -> None:
    """The variable is named."""
    assert "vault_enabled must be true or false, but is 'perhaps'." in answers["neither"]


def test_an_undefined_variable(answers: dict[str, Any]) -> None:
    """The file and the name."""
    assert "roles/vault/meta/service.yml cannot be used: " in answers["undefined"]
    assert "'nowhere' is undefined" in answers["undefined"]


def test_a_description_of_another_name(answers: dict[str, Any]) -> None:
    """Its role is found by its folder, so both must be alike."""
    assert "names the service 'other', but its role is 'misnamed'. Name both alike." in answers["wrong_name"]
