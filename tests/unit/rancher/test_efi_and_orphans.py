# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""UEFI for an adopted cluster only with consent and never over somebody's change; orphans go, also when held."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.modules import harvester_orphans, rancher_machine_config_efi
from ansible_collections.harvester_rke2.platform.tests.unit.rancher.fake import TOKEN, Rancher

FLEET = "/apis/provisioning.cattle.io/v1/namespaces/fleet-default/clusters"
CONFIGS = "/k8s/clusters/local/apis/rke-machine-config.cattle.io/v1/namespaces/fleet-default/harvesterconfigs"
MACHINES = "/apis/kubevirt.io/v1/namespaces/lab/virtualmachines"


@pytest.fixture
def adopted(rancher: Rancher) -> Rancher:
    """A cluster whose pools have nodes, none and UEFI already."""
    sizes = {"general": 2, "compute": 0, "database": 3}
    pools = [
        {"name": name, "quantity": size, "machineConfigRef": {"name": f"nc-{name}"}} for name, size in sizes.items()
    ]
    rancher.objects[f"/k8s/clusters/local{FLEET}/lab"] = {"spec": {"rkeConfig": {"machinePools": pools}}}
    for name in sizes:
        efi = {"enableEfi": True} if name == "database" else {}
        rancher.objects[f"{CONFIGS}/nc-{name}"] = {"metadata": {"resourceVersion": "1"}, "cpuCount": "4", **efi}
    return rancher


def switch(rancher: Rancher, check: bool = False, **options: Any) -> dict[str, Any]:
    connection = {"rancher_url": rancher.url, "rancher_token": TOKEN, "rancher_ca_certificate": ""}
    wanted = {"name": "lab", "pools": [], "allow_roll": [], "harvester_cluster": "", "namespace": "", **options}
    return rancher_machine_config_efi.execute({**connection, **wanted}, check)


def writes(rancher: Rancher) -> list[str]:
    return [path for method, path in rancher.requests if method not in ("GET", "HEAD")]


def test_without_consent_nothing_is_changed(adopted: Rancher) -> None:
    with pytest.raises(PlatformError, match="every node of the pools general would be replaced"):
        switch(adopted)
    assert writes(adopted) == []


def test_with_consent_one_field_is_set_once(adopted: Rancher) -> None:
    first = switch(adopted, allow_roll=["general"])
    assert (first["switched"], first["pools"]) == (["nc-general", "nc-compute"], ["general", "compute"])
    assert adopted.objects[f"{CONFIGS}/nc-general"]["cpuCount"] == "4"
    assert not switch(adopted, allow_roll=["general"])["changed"]


def test_check_mode_says_so_and_stores_nothing(adopted: Rancher) -> None:
    result = switch(adopted, check=True)
    assert result["changed"] and "pools general" in result["refused"]
    assert all("dryRun=All" in path for path in writes(adopted))
    assert "enableEfi" not in adopted.objects[f"{CONFIGS}/nc-general"]


def test_a_conflict_in_ranchers_words_is_read_anew(adopted: Rancher) -> None:
    adopted.conflicts = 3
    assert switch(adopted, pools=["compute"])["switched"] == ["nc-compute"]
    adopted.conflicts = 99
    with pytest.raises(PlatformError, match="somebody else changes it all the time"):
        switch(adopted, pools=["general"], allow_roll=["general"])


def test_a_pool_that_is_not_there(adopted: Rancher) -> None:
    with pytest.raises(PlatformError, match="no pool generall"):
        switch(adopted, pools=["generall"])


def test_machines_on_bios_are_named(adopted: Rancher) -> None:
    def machine(name: str, **firmware: Any) -> dict[str, Any]:
        return {"metadata": {"name": name}, "spec": {"template": {"spec": {"domain": {"firmware": firmware}}}}}

    loader = {"efi": {"secureBoot": False}}
    adopted.put(
        "c-m-hvst", MACHINES, machine("lab-general-a"), machine("lab-general-b", bootloader=loader), machine("x")
    )
    assert switch(adopted, check=True, harvester_cluster="harvester")["bios"] == ["lab-general-a"]


@pytest.fixture
def left(rancher: Rancher) -> Rancher:
    """A machine that nothing holds, and one whose controller has gone."""
    rancher.put("local", FLEET)
    for name, finalizers in (("lab-general-a", []), ("lab-general-b", ["kubevirt.io/gone"])):
        item = {"metadata": {"name": name, "finalizers": finalizers, "resourceVersion": "1"}}
        rancher.objects[f"/k8s/clusters/c-m-hvst{MACHINES}/{name}"] = item
    items = [item for path, item in rancher.objects.items() if f"{MACHINES}/" in path]
    rancher.put("c-m-hvst", MACHINES, *items)
    return rancher


def clean(rancher: Rancher, check: bool = False) -> dict[str, Any]:
    connection = {"rancher_url": rancher.url, "rancher_token": TOKEN, "rancher_ca_certificate": ""}
    wanted = {"name": "lab", "harvester_cluster": "harvester", "namespace": "lab", "grace": 0, "timeout": 20}
    return harvester_orphans.execute({**connection, **wanted}, check)


def test_orphans_go_also_when_held(left: Rancher) -> None:
    assert clean(left, check=True)["changed"] and writes(left) == []
    result = clean(left)
    assert [entry["name"] for entry in result["orphans"]] == ["lab-general-a", "lab-general-b"]
    assert not [path for path in left.objects if f"{MACHINES}/" in path]


def test_machines_of_a_living_cluster_stay(left: Rancher) -> None:
    left.put("local", FLEET, {"metadata": {"name": "lab"}})
    assert not clean(left)["changed"] and writes(left) == []
