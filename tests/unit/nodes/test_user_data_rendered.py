# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""User data as phase 0 sends it, rendered by the real ansible-playbook for several inventories and compared."""

from __future__ import annotations

import difflib
import json
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import ROOT, Play

NUMBERS = {"minimum": 3, "maximum": 3, "cpu": 4, "memory_gib": 8, "disk_gib": 60}
POOLS = ("controlplane", "general", "database")
# As roles/rke2_cluster/templates/objects/20-machine-configs.yml.j2 asks for it.
FRAGMENTS = ROOT / "roles" / "rke2_cluster" / "templates" / "user-data"
LOOKUP = f"lookup('harvester_rke2.platform.user_data', '{FRAGMENTS}', pool='%s')"
OF_POOLS = ", ".join(f"'{pool}': {LOOKUP % pool}" for pool in POOLS)
PLAYBOOK = f"""
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.copy:
        content: "{{{{ {{{OF_POOLS}}} | to_json }}}}"
        dest: "{{{{ playbook_dir }}}}/{{{{ inventory_hostname }}}}.json"
        mode: "0600"
"""
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5bY6kp0xVbEmqsNbnFbV0a8mGXEH5L4yC7f0Cz0Q9x me"
SECRET = "this-is-a-secret"
SHARED: dict[str, Any] = {
    "rke2_cluster_ssh_authorized_keys": [KEY],
    "platform_rancher_token": SECRET,
    "rke2_cluster_credential_token": SECRET,
    "rke2_cluster_registry_password": SECRET,
    "cluster_autoscaler_token": SECRET,
    "platform_domain": "lab.example.com",
    "platform_cluster_name": "platform-lab",
    "platform_root_ca_certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "platform_pools": {
        "controlplane": {**NUMBERS, "control_plane": True},
        "general": NUMBERS,
        "database": {**NUMBERS, "node_variables": {"rke2_node_extra_packages": ["iscsi-initiator-utils"]}},
    },
}
REPOSITORY = {"baseurl": "https://mirror.example.com/rocky/9/BaseOS", "gpgkey": "https://mirror.example.com/key"}
INVENTORIES: dict[str, dict[str, Any]] = {
    "usual": {},
    "again": {},
    "vlan": {"policy_routing_vlan": 7, "policy_routing_interface": "eth0.7"},
    "other_pool": {"platform_load_balancer_pool": "198.51.100.2-198.51.100.99"},
    "airgapped": {"rke2_node_airgapped": True, "rke2_node_yum_repositories": {"mirror": REPOSITORY}},
}
Rendered = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def rendered(play: Play, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("user-data")
    done = play(folder, PLAYBOOK, {name: {**SHARED, **inventory} for name, inventory in INVENTORIES.items()})
    assert done.returncode == 0, done.stdout[-3000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in INVENTORIES}


def changed(one: str, other: str) -> list[str]:
    """Lines that are in one only."""
    lines = difflib.unified_diff(one.splitlines(), other.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[0] in "+-" and not line.startswith(("+++", "---"))]


def files(user_data: str) -> dict[str, str]:
    return {file["path"]: file["content"] for file in yaml.safe_load(user_data)["write_files"]}


def test_the_same_variables_give_the_same_bytes(rendered: Rendered) -> None:
    assert rendered["again"] == rendered["usual"]


def test_a_larger_load_balancer_pool_replaces_no_node(rendered: Rendered) -> None:
    assert rendered["other_pool"] == rendered["usual"]


def test_two_pools_differ_in_their_packages_only(rendered: Rendered) -> None:
    lines = changed(rendered["usual"]["general"], rendered["usual"]["database"])
    told = [line for line in lines if "iscsi-initiator-utils" not in line]
    # Beside the package itself: the line without it, and nothing else but the mark, which is no digest of packages.
    assert any("iscsi-initiator-utils" in line for line in lines)
    assert len(told) == 1 and told[0].startswith("-") and "again dnf" in told[0]


def test_a_control_plane_has_no_second_interface(rendered: Rendered) -> None:
    worker, leader = files(rendered["usual"]["general"]), files(rendered["usual"]["controlplane"])
    for path in ("/etc/sysctl.d/90-arp.conf", "/etc/NetworkManager/dispatcher.d/10-ingress-routing"):
        assert path in worker and path not in leader


def test_another_services_vlan_changes_the_profile_of_the_interface(rendered: Rendered) -> None:
    usual, vlan = files(rendered["usual"]["general"]), files(rendered["vlan"]["general"])
    profile = vlan["/etc/NetworkManager/system-connections/services-eth0.7.nmconnection"]
    assert "type=vlan" in profile and "id=7" in profile
    assert "/etc/NetworkManager/system-connections/services-eth1.nmconnection" in usual
    # A control plane is not in that network: none of its nodes would be replaced.
    assert rendered["vlan"]["controlplane"] == rendered["usual"]["controlplane"]


def test_airgapped_everything_comes_from_the_mirror(rendered: Rendered) -> None:
    usual, airgapped = rendered["usual"]["general"], rendered["airgapped"]["general"]
    assert "rpm.rancher.io" in usual and "rpm.rancher.io" not in airgapped
    assert "https://mirror.example.com/rocky/9/BaseOS" in airgapped and "mirror.example.com" not in usual


def test_inside_the_limits_and_without_a_secret(rendered: Rendered) -> None:
    for inventory in rendered.values():
        for text in inventory.values():
            assert text.startswith("#cloud-config\n")
            assert len(text) < 64 * 1024
            assert SECRET not in text
            found = yaml.safe_load(text)
            assert found["users"] == ["default"] and found["ssh_authorized_keys"] == [KEY]
            assert set(found) == {"users", "ssh_authorized_keys", "runcmd", "write_files"}
