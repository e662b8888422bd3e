# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Every sentence about a wrong configuration. The files in tests/data/bad_configuration show them through Ansible."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _configuration as configuration
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import ROOT

WORKER = {"minimum": 4, "maximum": 10, "cpu": 4, "memory_gib": 8, "disk_gib": 60}
CONTROL_PLANE = {**WORKER, "minimum": 3, "maximum": 3, "control_plane": True}
GOOD: dict[str, Any] = {
    "platform_domain": "lab.example.com",
    "platform_cluster_name": "platform-lab",
    "platform_keys_namespace": "platform-lab-keys",
    "platform_pod_cidr": "10.42.0.0/16",
    "platform_service_cidr": "10.43.0.0/16",
    "platform_services_network": "198.51.100.0/24",
    "platform_load_balancer_pool": "198.51.100.2-198.51.100.20",
    "platform_load_balancer_ip": "198.51.100.2",
    "platform_pools": {"controlplane": CONTROL_PLANE, "general": WORKER},
}
SERVICE: dict[str, Any] = {"name": "demo", "pool": "general", "requires": [], "routes": [], "checks": []}


def one(found: list[str]) -> str:
    """The only fault."""
    assert len(found) == 1, found
    return found[0]


def test_nothing_wrong() -> None:
    """No fault."""
    assert configuration.check(GOOD) == []


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_a_role_s_own_defaults_are_taken(role: str) -> None:
    """In the playbook of its phase alone they are judged beside the shared ones."""
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text()) or {}
    assert configuration.check_quantities(defaults) == []


@pytest.mark.parametrize(
    "change",
    [
        {"platform_domain": "a.b"},
        {"platform_domain": "1and1.example"},
        {"platform_domain": "xn--mller-kva.example.com"},
        {"platform_cluster_name": "a"},
        {"platform_cluster_name": "a" * 40},
        {"platform_pod_cidr": "fd00:42::/56", "platform_service_cidr": "fd00:43::/112"},
        {"platform_load_balancer_pool": "198.51.100.2 - 198.51.100.2"},
        {"platform_pools": {"one": {**CONTROL_PLANE, "minimum": 1, "maximum": 1}}},
        {"platform_pools": {"cp": CONTROL_PLANE, "none": {**WORKER, "minimum": 0, "maximum": 0}}},
        {"platform_pools": {"cp": CONTROL_PLANE, "general": {**WORKER, "control_plane": False}}},
    ],
)
def test_unusual_but_right(change: dict[str, Any]) -> None:
    """Refusing what is right would be as bad."""
    assert configuration.check({**GOOD, **change}) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"platform_domain": ""}, "platform_domain is not set: give the domain of the platform's host names, such as"),
        ({"platform_domain": "lab.example.com/x"}, "platform_domain is 'lab.example.com/x', which is a URL: give the"),
        ({"platform_domain": "Lab.example"}, "platform_domain is 'Lab.example': write it in lower case, lab.example, "),
        ({"platform_domain": "lab"}, "platform_domain is 'lab', which is no domain name: give at least two labels"),
        ({"platform_domain": "lab.example."}, "platform_domain is 'lab.example.', which is no domain name"),
        ({"platform_domain": "-lab.example"}, "platform_domain is '-lab.example', which is no domain name"),
        ({"platform_domain": "a." * 100 + "b"}, "which is no domain name"),
        ({"platform_domain": "a" * 64 + ".example"}, "which is no domain name"),
        ({"platform_cluster_name": ""}, "platform_cluster_name is not set: give the cluster's name"),
        ({"platform_cluster_name": "Lab"}, "platform_cluster_name is 'Lab': use lower-case letters, digits and"),
        ({"platform_cluster_name": "lab-"}, "platform_cluster_name is 'lab-': use lower-case letters"),
        ({"platform_cluster_name": "a" * 41}, "platform_cluster_name has 41 characters: shorten it to at most 40"),
        ({"platform_keys_namespace": "a" * 64}, "which is no namespace: use at most 63 lower-case letters"),
        ({"platform_pod_cidr": "10.42.0.1/16"}, "no network: write 10.42.0.0/16, whose host bits are zero."),
        ({"platform_pod_cidr": "10.42.0.0/40"}, "no network: write a network such as 10.42.0.0/16."),
        ({"platform_pod_cidr": "10.43.128.0/17"}, "platform_pod_cidr (10.43.128.0/17) and platform_service_cidr ("),
        ({"platform_services_network": "0.0.0.0/0", "platform_pod_cidr": "fd00::/56"}, "overlap: choose ranges that"),
        ({"platform_load_balancer_pool": "198.51.100.2"}, "which is no range of addresses: write first-last"),
        ({"platform_load_balancer_pool": "198.51.100.2-20"}, "which is no range of addresses: write first-last"),
        ({"platform_load_balancer_pool": "198.51.100.9-198.51.100.2"}, "write 198.51.100.2-198.51.100.9."),
        ({"platform_load_balancer_pool": "198.51.100.2-::1"}, "an IPv4 and an IPv6 address: write two of"),
        ({"platform_load_balancer_pool": "198.51.100.2-198.51.101.1"}, "is not inside platform_services_"),
        ({"platform_load_balancer_ip": "198.51.100.21"}, "(198.51.100.21) is not in platform_load_balancer_pool"),
        ({"platform_load_balancer_ip": "::1"}, "(::1) is not in platform_load_balancer_pool"),
        ({"platform_load_balancer_ip": "auto"}, "'auto', which is no address: write one of 198.51"),
        ({"platform_pools": {}}, "platform_pools is empty: give at least one pool with control_plane: true."),
        ({"platform_pools": {"general": WORKER}}, "platform_pools has no control plane: set control_plane: true"),
    ],
)
def test_shared_variables(change: dict[str, Any], sentence: str) -> None:
    """One fault, which names the variable, shows its value and says the mend."""
    assert sentence in one(configuration.check({**GOOD, **change}))


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        ({**WORKER, "cpus": 4}, "platform_pools.p.cpus is no setting of a pool: did you mean cpu?"),
        ({**WORKER, "zone": "a"}, "zone is no setting of a pool: there are control_plane, cpu, disk_gib, maxi"),
        ({**WORKER, "5": "a"}, "platform_pools.p.5 is no setting of a pool: there are"),
        ({"minimum": 1, "maximum": 1}, "platform_pools.p lacks cpu, disk_gib, memory_gib: give each a number."),
        ({**WORKER, "cpu": "4"}, "platform_pools.p.cpu is '4': give a whole number, not below 0, without a unit."),
        ({**WORKER, "cpu": 4.5}, "platform_pools.p.cpu is '4.5': give a whole number"),
        ({**WORKER, "cpu": True}, "platform_pools.p.cpu is 'True': give a whole number"),
        ({**WORKER, "minimum": -1}, "platform_pools.p.minimum is '-1': give a whole number, not below 0"),
        ({**WORKER, "cpu": 1}, "platform_pools.p.cpu is 1, with which RKE2 does not come up: give at least 2."),
        ({**WORKER, "memory_gib": 3}, "memory_gib is 3, with which RKE2 does not come up: give at least 4."),
        ({**WORKER, "disk_gib": 19}, "disk_gib is 19, with which RKE2 does not come up: give at least 20."),
        ({**WORKER, "minimum": 11}, "has minimum 11 above maximum 10: exchange them, or raise the maximum."),
        ({**CONTROL_PLANE, "maximum": 5}, "is a control plane and cannot grow by itself: give minimum and maximum the"),
        ({**CONTROL_PLANE, "minimum": 4, "maximum": 4}, "has 4 control-plane nodes: choose an odd number (1, 3 or 5)"),
        ({**CONTROL_PLANE, "minimum": 0, "maximum": 0}, "has 0 control-plane nodes: choose an odd number"),
        ({**WORKER, "control_plane": "yes"}, "platform_pools.p.control_plane is 'yes': write true or false."),
    ],
)
def test_a_pool(pool: dict[str, Any], sentence: str) -> None:
    """Names, numbers, and what cannot be."""
    assert sentence in one(configuration.check_pool("p", pool))


def test_pools_that_are_none() -> None:
    """A list where a mapping belongs, and names that no host can have."""
    pools = {"controlplane": CONTROL_PLANE, "Big_ones": WORKER, "list": ["cpu"]}
    assert configuration.check_pools(pools) == [
        "platform_pools has a pool named 'Big_ones': use lower-case letters, digits and '-' only.",
        "platform_pools.list is no mapping: give it cpu, disk_gib, maximum, memory_gib, minimum.",
    ]


def test_all_faults_at_once() -> None:
    """Mended in one go."""
    wrong = {**GOOD, "platform_domain": "", "platform_pod_cidr": "x", "platform_load_balancer_ip": "y"}
    assert len(configuration.check(wrong)) == 3


def test_a_fault_of_the_cluster_name_is_told_once() -> None:
    """The default of the keys' namespace is made of it."""
    wrong = {**GOOD, "platform_cluster_name": "Lab", "platform_keys_namespace": "Lab-keys"}
    assert "platform_cluster_name" in one(configuration.check(wrong))


@pytest.mark.parametrize("size", ["10Gi", "512Mi", "2Ti"])
def test_sizes(size: str) -> None:
    """Kubernetes quantities with a unit."""
    assert configuration.check_quantities({"demo_size": size, "demo_host": "x"}) == []


@pytest.mark.parametrize("size", ["10", 10, "10GB", "10G", "0Gi", "1.5Gi", "-1Gi", "10 Gi", ""])
def test_wrong_sizes(size: object) -> None:
    """Without a unit it would be bytes."""
    assert one(configuration.check_quantities({"demo_size": size})) == (
        f"demo_size is '{size}': write a size such as 10Gi (Mi, Gi or Ti)."
    )


OPTIONS: dict[str, Any] = {
    "demo_replicas": {"type": "int", "default": 3, "description": "d"},
    "demo_enabled": {"type": "bool", "default": True},
    "demo_ratio": {"type": "float"},
    "demo_values": {"type": "dict"},
    "demo_hosts": {"type": "list", "elements": "int"},
    "demo_mode": {"type": "str", "choices": ["a", "b"]},
    "demo_name": {"required": True},
    "demo_deep": {"type": "dict", "options": {"inner": {"type": "int"}}},
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"demo_replicas": 3, "demo_enabled": False, "demo_ratio": 0.5, "demo_values": {}, "demo_hosts": [1]},
        # Values given on the command line are text.
        {"demo_replicas": "3", "demo_enabled": "no", "demo_ratio": "0.5", "demo_values": "{}", "demo_hosts": "1,2"},
        {"demo_mode": "a", "demo_name": "x", "demo_deep": {"inner": 1}},
    ],
)
def test_types(values: dict[str, Any]) -> None:
    """As Ansible itself takes them; what is required but not given may come later."""
    assert configuration.check_types("demo", OPTIONS, values) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"demo_replicas": "three"}, "demo_replicas must be a whole number, but is text: correct it, or remove"),
        ({"demo_replicas": True}, "demo_replicas must be a whole number, but is true or false: correct it"),
        ({"demo_replicas": [3]}, "demo_replicas must be a whole number, but is a list"),
        ({"demo_enabled": "perhaps"}, "demo_enabled must be true or false, but is text"),
        ({"demo_enabled": {}}, "demo_enabled must be true or false, but is a mapping"),
        ({"demo_ratio": "half"}, "demo_ratio must be a number, but is text"),
        ({"demo_values": 5}, "demo_values must be a mapping, but is a whole number"),
        ({"demo_hosts": {"a": 1}}, "demo_hosts must be a list, but is a mapping"),
        ({"demo_name": None}, "demo_name is empty: give it a value, or remove the line to get the default."),
        ({"demo_mode": "c"}, "demo_mode has a value that it cannot have: choose one of a, b."),
        ({"demo_hosts": ["x"]}, "demo_hosts cannot be used ("),
        ({"demo_deep": {"inner": "x"}}, "see ansible-doc -t role harvester_rke2.platform.demo for what it takes."),
    ],
)
def test_wrong_types(values: dict[str, Any], sentence: str) -> None:
    """What it must be and what it is."""
    assert sentence in one(configuration.check_types("demo", OPTIONS, values))


def test_a_value_is_not_repeated() -> None:
    """It may be a secret that went to the wrong line."""
    assert "hunter2" not in one(configuration.check_types("demo", OPTIONS, {"demo_replicas": "hunter2"}))


KNOWN = {"platform_domain", "platform_pools", "platform_storage_class", "vault_host", "vault_pki_mount"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("platform_domian", "platform_domian is no variable of this collection: did you mean platform_domain?"),
        ("platform_storageclass", "did you mean platform_storage_class?"),
        ("platform_pool", "did you mean platform_pools?"),
        ("platform_xyzzy", "platform_xyzzy is no variable of this collection: remove it, or see the role's README"),
    ],
)
def test_unknown_names(name: str, sentence: str) -> None:
    """The nearest name is offered, when one is near."""
    assert sentence in one(configuration.unknown_names([name, "other_variable"], KNOWN, "platform_"))


def test_known_names_and_others_prefixes() -> None:
    """Nothing is said about them."""
    assert configuration.unknown_names(["platform_domain", "vault_hots"], KNOWN, "platform_") == []
    assert configuration.unknown_names(["vault_pki_mount"], KNOWN, "vault_") == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pool": "generl"}, "demo runs on the pool 'generl', which platform_pools lacks: add it, or name anot"),
        ({"pool": "x"}, "add it, or name another (controlplane, general)."),
        ({"requires": ["vault"]}, "demo needs vault, which is switched off: set vault_enabled: true, or demo_e"),
        ({"requires": ["minio"]}, "demo needs minio, which no role describes: put that role on roles_path, or set d"),
        ({"routes": [{"host": "demo"}, {"host": "demo"}]}, "demo and demo both want the host name 'demo': rename one."),
        ({"checks": [{"that": False, "message": "demo is odd: make it even."}]}, "demo is odd: make it even."),
    ],
)
def test_services(change: dict[str, Any], sentence: str) -> None:
    """How the enabled services fit together."""
    found = configuration.check_services([{**SERVICE, **change}], GOOD["platform_pools"], ["demo", "vault"])
    assert sentence in one(found)


def test_services_that_fit() -> None:
    """A requirement that is there, a check that holds, a service without a pool."""
    services = [
        {**SERVICE, "requires": ["other"], "checks": [{"that": True, "message": "m"}], "routes": [{"host": "a"}]},
        {**SERVICE, "name": "other", "pool": None, "routes": [{"host": "b"}]},
    ]
    assert configuration.check_services(services, GOOD["platform_pools"]) == []
