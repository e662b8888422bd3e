# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Addresses: what is local to the lab's namespace, what is a real pod's, what a load balancer may have."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from lab import cilium, netns, nodes, pki, settings
from lab.settings import Lab, LabError


def network(text: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(text)


def test_real_pods_are_not_local() -> None:
    local, real = network(settings.LOCAL_RANGE), network(settings.REAL_POD_RANGE)
    assert not local.overlaps(real)
    assert local.subnet_of(network(settings.CLUSTER_RANGE)) and real.subnet_of(network(settings.CLUSTER_RANGE))


def test_everything_the_lab_binds_is_local() -> None:
    local = network(settings.LOCAL_RANGE)
    bound = [settings.GATEWAY, settings.DNS_SERVER, *settings.LOAD_BALANCER_POOL]
    bound += [server.address for server in settings.SERVERS]
    assert all(ipaddress.IPv4Address(address) in local for address in bound)


def test_services_of_the_three_servers_do_not_overlap() -> None:
    ranges = [network(server.services) for server in settings.SERVERS]
    assert all(one is other or not one.overlaps(other) for one in ranges for other in ranges)
    assert all(one.subnet_of(network(settings.SERVICE_RANGE)) for one in ranges)
    assert [server.first_service for server in settings.SERVERS] == ["198.19.0.1", "198.19.16.1", "198.19.32.1"]


def test_the_reference_cluster() -> None:
    made = nodes.reference()
    assert len(made) == 11 and len({node["metadata"]["name"] for node in made}) == 11
    local = network(settings.LOCAL_RANGE)
    assert all(network(node["spec"]["podCIDR"]).subnet_of(local) for node in made)
    assert len({node["spec"]["podCIDR"] for node in made}) == 11
    addresses = [node["status"]["addresses"][0]["address"] for node in made]
    assert set(addresses) <= set(pki.NODE_ADDRESSES) and len(set(addresses)) == 11
    workers = [node for node in made if "taints" not in node["spec"]]
    assert sorted(node["metadata"]["labels"]["workload-type"] for node in workers) == ["database"] * 4 + ["general"] * 4
    assert all("workload-type" not in node["metadata"]["labels"] for node in made if node not in workers)


def test_node_names_are_the_same_at_every_start() -> None:
    assert [node["metadata"]["name"] for node in nodes.reference()] == [
        node["metadata"]["name"] for node in nodes.reference()
    ]


def test_pod_ranges_end() -> None:
    assert nodes.pod_range(0) == "198.18.64.0/24"
    with pytest.raises(ValueError, match="63 nodes"):
        nodes.pod_range(63)


def test_ports_inside_lead_to_the_api_servers() -> None:
    rules = netns.filters({"cluster": 1, "harvester": 2, "rancher": 3})
    assert "ip daddr 127.0.0.1 tcp dport 2 dnat to 198.18.0.2:6443" in rules


def test_two_clones_do_not_share_a_namespace() -> None:
    one, other = Lab("lab", Path("/a")), Lab("lab", Path("/b"))
    assert one.namespace != other.namespace
    assert Lab("x" * 32, Path("/a")).namespace.startswith("lab-xxxx")
    assert Lab("two", Path("/a")).directory == Path("/a/.lab-two") and one.directory == Path("/a/.lab")


@pytest.mark.parametrize("name", ["Two", "a b", "-a", "a/../b", "x" * 33])
def test_a_bad_name_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_NAME", name)
    with pytest.raises(LabError, match="LAB_NAME takes"):
        Lab.from_environment()


POOL: dict[str, Any] = {"metadata": {"name": "p"}, "spec": {"blocks": [{"start": "198.18.1.2", "stop": "198.18.1.20"}]}}


def service(**spec: object) -> dict[str, Any]:
    annotations = {"lbipam.cilium.io/ips": "198.18.1.2"}
    wanted = {"type": "LoadBalancer", "loadBalancerClass": "io.cilium/l2-announcer", **spec}
    return {"metadata": {"name": "s", "namespace": "n", "annotations": annotations}, "spec": wanted}


@pytest.mark.parametrize(
    ("given", "pools", "expected"),
    [
        (service(), [POOL], ["198.18.1.2"]),
        (service(loadBalancerClass=None), [POOL], []),
        (service(loadBalancerClass="other"), [POOL], []),
        (service(type="ClusterIP"), [POOL], []),
        (service(), [], []),
        (service(), [{"spec": {**POOL["spec"], "disabled": True}}], []),
        (service(), [{"spec": {"blocks": [{"cidr": "198.18.1.0/29"}]}}], ["198.18.1.2"]),
        (service(), [{"spec": {"blocks": [{"start": "198.18.1.3", "stop": "198.18.1.9"}]}}], []),
        (service(), [{"spec": {**POOL["spec"], "serviceSelector": {"matchLabels": {"a": "b"}}}}], []),
    ],
)
def test_addresses_are_given_by_class_annotation_and_pool(
    given: dict[str, Any], pools: list[dict[str, Any]], expected: list[str]
) -> None:
    assert cilium.addresses(given, pools) == expected
