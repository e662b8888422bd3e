# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""HarvesterConfigs as the node driver reads them, and what changes the hash of their template."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from lab.rancher.driver import build
from lab.rancher.machineconfig import BadConfig, digest, merged, read

DISKS = {"disks": [{"imageName": "ns/rocky", "size": 80, "bootOrder": 1, "bus": "virtio", "type": "disk"}]}
NETWORKS = {"interfaces": [{"networkName": "ns/vm"}, {"networkName": "ns/services", "macAddress": "52:54:00:00:00:01"}]}


def config(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "rke-machine-config.cattle.io/v1",
        "kind": "HarvesterConfig",
        "metadata": {"name": "general", "resourceVersion": "1"},
        "vmNamespace": "ns",
        "cpuCount": "4",
        "memorySize": "8",
        "diskInfo": json.dumps(DISKS),
        "networkInfo": json.dumps(NETWORKS),
        "enableEfi": True,
        "userData": "#cloud-config\npackages: [iptables]\n",
        **changes,
    }


def test_it_is_read_as_the_driver_does() -> None:
    found = read(config())
    assert (found.namespace, found.cpu, found.memory, found.efi) == ("ns", 4, 8, True)
    assert [disk.size for disk in found.disks] == [80] and found.disks[0].image == "ns/rocky"
    assert [one.network for one in found.interfaces] == ["ns/vm", "ns/services"]
    assert [one.model for one in found.interfaces] == ["virtio", "virtio"]


def test_user_data_is_plain_or_base64() -> None:
    text = "#cloud-config\ntimezone: UTC\n"
    assert read(config(userData=base64.b64encode(text.encode()).decode())).user_data == text
    assert read(config(userData=text)).user_data == text


def test_the_wrong_name_of_efi_does_nothing() -> None:
    assert not read(config(enableEfi=False, enableEFI=True)).efi


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"diskInfo": "{"}, "diskInfo"),
        ({"diskInfo": '{"disk": []}'}, "diskInfo"),
        ({"diskInfo": ""}, "must specify diskInfo"),
        ({"diskInfo": '{"disks": [{"size": 0}]}'}, "greater than zero"),
        ({"networkInfo": '{"interfaces": "eth0"}'}, "networkInfo"),
        ({"networkInfo": ""}, "must specify networkInfo"),
        ({"cpuCount": "four"}, "cpuCount"),
    ],
)
def test_what_the_driver_would_end_with(change: dict[str, str], words: str) -> None:
    with pytest.raises(BadConfig, match=words):
        read(config(**change))


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"common": {"labels": {"a": "b"}}}, True),
        ({"metadata": {"name": "general", "labels": {"a": "b"}}}, True),
        ({"networkData": ""}, True),
        ({"enableTpm": False}, True),
        ({"enableEfi": False}, False),
        ({"userData": "#cloud-config\npackages: [iptables]\n "}, False),
        ({"cpuCount": "5"}, False),
    ],
)
def test_only_the_template_decides_the_hash(change: dict[str, Any], same: bool) -> None:
    assert (digest("c-general", config(**change)) == digest("c-general", config())) is same
    assert digest("c-general", config()) != digest("d-general", config())


def test_user_data_is_merged_with_the_drivers_own() -> None:
    found = yaml.safe_load(
        merged(read(config(userData="#cloud-config\npackages: [a]\nruncmd: [[b]]\n")), "#!/bin/sh\n")
    )
    assert found["packages"] == ["qemu-guest-agent", "a"]
    assert found["runcmd"][1] == ["b"] and "install.sh" in found["runcmd"][-1]
    with pytest.raises(BadConfig):
        merged(read(config(userData="just text")), "")


def test_the_virtual_machine_has_what_the_driver_writes() -> None:
    images: dict[str, Any] = {"ns/rocky": {"status": {"storageClassName": "longhorn-rocky"}}}
    machine, secret = build("c-general-x-y", "c", "general", read(config()), images, "#cloud-config\n" + "#" * 3000)
    spec = machine["spec"]["template"]["spec"]
    assert machine["spec"]["runStrategy"] == "RerunOnFailure"
    assert spec["domain"]["firmware"] == {"bootloader": {"efi": {"secureBoot": False}}}
    assert [one["multus"]["networkName"] for one in spec["networks"]] == ["ns/vm", "ns/services"]
    assert spec["domain"]["devices"]["interfaces"][1]["macAddress"] == "52:54:00:00:00:01"
    claim = json.loads(machine["metadata"]["annotations"]["harvesterhci.io/volumeClaimTemplates"])[0]
    assert claim["spec"]["storageClassName"] == "longhorn-rocky"
    assert claim["spec"]["resources"]["requests"]["storage"] == "80Gi"
    assert secret and spec["volumes"][-1]["cloudInitNoCloud"]["secretRef"]["name"] == secret["metadata"]["name"]
    small, none = build("c-general-x-y", "c", "general", read(config(enableEfi=False)), images, "#cloud-config\n")
    assert none is None and "firmware" not in small["spec"]["template"]["spec"]["domain"]


def test_an_empty_anti_affinity_becomes_that_of_the_pool() -> None:
    """What phase 0 sends: the driver itself knows the machine set's name."""
    images: dict[str, Any] = {"ns/rocky": {"status": {"storageClassName": "longhorn-rocky"}}}
    machine, _ = build("c-general-x-y", "c", "general", read(config(vmAffinity='{"podAntiAffinity": {}}')), images, "")
    spec = machine["spec"]["template"]
    (term,) = spec["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    wanted = term["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert wanted.items() <= spec["metadata"]["labels"].items()
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    without, _ = build("c-general-x-y", "c", "general", read(config()), images, "")
    assert "affinity" not in without["spec"]["template"]["spec"]
