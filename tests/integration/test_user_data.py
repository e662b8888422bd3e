# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What phase 0 has sent to Rancher is what the lookup says and what node scenarios apply, and machines boot with it.

Needs a lab whose nodes Rancher has made, and the site on it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.tests.integration.platform_lab import play
from ansible_collections.harvester_rke2.platform.tests.integration.rancher_cluster import (
    CLUSTERS,
    CONFIGS,
    DIRECTORY,
    Rancher,
)

from lab.kube import Client
from lab.settings import REPOSITORY

CLUSTER = "platform-lab"
PLAYBOOK = """
- name: Write the user data of each pool
  hosts: rke2_clusters
  gather_facts: false
  vars:
    # A default of rke2_cluster, which does not run here.
    rke2_cluster_ssh_authorized_keys: []
  roles:
    - {role: harvester_rke2.platform.platform, platform_phase: 0}
  tasks:
    - name: Write it as the lookup gives it
      ansible.builtin.copy:
        content: "{{ lookup('harvester_rke2.platform.user_data', own, pool=item) }}"
        dest: "{{ folder }}/{{ item }}"
        mode: "0600"
      loop: "{{ platform_pools | list }}"
"""

pytestmark = pytest.mark.skipif(
    not (DIRECTORY / "rancher-token").exists(), reason=f"no lab with a Rancher in {DIRECTORY}"
)


@pytest.fixture(scope="module")
def rancher() -> Client:
    client: Client = Rancher().client("local")
    if not client.get(f"{CLUSTERS}/{CLUSTER}"):
        pytest.skip("Rancher has made no cluster there: ansible-playbook site.yml -i inventories/lab")
    return client


@pytest.fixture(scope="module")
def said(rancher: Client, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """By pool, what the lookup gives for the lab's inventory."""
    folder = tmp_path_factory.mktemp("said")
    own = REPOSITORY / "roles" / "rke2_cluster" / "templates" / "user-data"
    play(tmp_path_factory.mktemp("play"), PLAYBOOK, folder=str(folder), own=str(own))
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_rancher_has_it_byte_for_byte(rancher: Client, said: Mapping[str, str]) -> None:
    configs = rancher.request("GET", CONFIGS)["items"]
    ours = {item["metadata"]["name"]: item["userData"] for item in configs}
    assert len(said) > 1
    assert {f"{CLUSTER}-{pool}": text for pool, text in said.items()} == {
        name: text for name, text in ours.items() if name.startswith(f"{CLUSTER}-")
    }


def test_the_machines_were_told_it(rancher: Client, said: Mapping[str, str]) -> None:
    """The driver puts its own before and Rancher's installation behind, and keeps what is above 2 KiB in a Secret."""
    harvester = Client(DIRECTORY / "kubeconfig" / "harvester.yaml")
    machines = harvester.request("GET", "/apis/kubevirt.io/v1/virtualmachines")["items"]
    seen = set()
    for machine in machines:
        labels = machine["metadata"]["labels"]
        pool = labels.get("nodepool.harvesterhci.io/name", "")
        if pool not in said or labels.get("guestcluster.harvesterhci.io/name") != CLUSTER:
            continue
        space, name = machine["metadata"]["namespace"], machine["metadata"]["name"]
        secret = harvester.get(f"/api/v1/namespaces/{space}/secrets/{name}-cloudinit")
        assert secret, f"{name} has no user data"
        told = yaml.safe_load(base64.b64decode(secret["data"]["userdata"]))
        wanted = yaml.safe_load(said[pool])
        for key, value in wanted.items():
            if isinstance(value, list):
                first = told[key].index(value[0])
                assert told[key][first : first + len(value)] == value, (name, key)
            else:
                assert told[key] == value, (name, key)
        assert told["runcmd"][-1] not in wanted["runcmd"]
        seen.add(pool)
    pools = rancher.request("GET", f"{CLUSTERS}/{CLUSTER}")["spec"]["rkeConfig"]["machinePools"]
    assert seen == {pool["name"] for pool in pools if pool["quantity"]}
