# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is wrong with the variables of rke2_node and cilium_l2 is told in a sentence each; what is right is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils import (
    _configuration,
    _configuration_nodes,
    _node_cilium_l2,
    _node_rke2,
)

ROOT = Path(__file__).resolve().parents[3]
PEM = (ROOT / "molecule/nodes/rke2_node/files/root-ca.crt").read_text()
MIRROR = {"mine": {"baseurl": "https://mirror.example.com/rocky9"}}
SECRET = "not-to-be-repeated"
SHARED = {
    "platform_pod_cidr": "10.42.0.0/16",
    "platform_service_cidr": "10.43.0.0/16",
    "platform_services_network": "198.51.100.0/24",
    "platform_load_balancer_pool": "198.51.100.2-198.51.100.20",
    "platform_load_balancer_ip": "198.51.100.2",
}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"rke2_node_family": "suse"},
            "rke2_node_family is 'suse', of which no names are known: choose one of debian, redhat",
        ),
        (
            {"rke2_node_time_daemon": "systemd-timesyncd"},
            "'systemd-timesyncd', which redhat does not have: choose one of chrony, none",
        ),
        (
            {"rke2_node_root_ca_certificate": PEM[:-60]},
            "rke2_node_root_ca_certificate is cut off or damaged: give the whole PEM",
        ),
        ({"rke2_node_root_ca_certificate": PEM.replace(PEM.splitlines()[2], "")}, "is cut off or damaged"),
        ({"rke2_node_mirror_ca_certificate": "mirror.crt"}, "rke2_node_mirror_ca_certificate is no certificate"),
        ({"rke2_node_mirror_ca_certificate": f"-----BEGIN PRIVATE KEY-----{SECRET}"}, "holds a private key"),
        (
            {"rke2_node_yum_repositories": {"mine": {"gpgcheck": True}}},
            "rke2_node_yum_repositories.mine has no baseurl: say where",
        ),
        (
            {"rke2_node_yum_repositories": {"my mirror": MIRROR["mine"]}},
            "rke2_node_yum_repositories.my mirror is no id",
        ),
        ({"rke2_node_yum_repositories": {"mine": "https://mirror"}}, "rke2_node_yum_repositories.mine is no mapping"),
        (
            {"rke2_node_yum_repositories": {"mine": {"baseurl": "mirror/rocky"}}},
            "mine.baseurl is 'mirror/rocky', which is no URL",
        ),
        (
            {"rke2_node_yum_repositories": {"mine": {"baseurl": f"https://me:{SECRET}@mirror"}}},
            "mine.baseurl holds a credential",
        ),
        (
            {"rke2_node_yum_repositories": {"mine": {**MIRROR["mine"], "password": SECRET}}},
            "mine.password holds a credential",
        ),
        ({"rke2_node_airgapped": True}, "rke2_node_airgapped leaves no package repository: give the private mirrors"),
        (
            {"rke2_node_airgapped": True, "rke2_node_yum_repositories": {_node_rke2.RANCHER: {"priority": 1}}},
            "rancher-rke2-common-stable has no baseurl",
        ),
        (
            {"rke2_node_proxy": {"http": "proxy:3128"}},
            "rke2_node_proxy.http is 'proxy:3128', which is no URL: write it like http://",
        ),
        ({"rke2_node_proxy": {"https": f"http://me:{SECRET}@proxy:3128"}}, "rke2_node_proxy.https holds a credential"),
        (
            {"rke2_node_proxy": {False: ".svc"}},
            "rke2_node_proxy has 'no', which means nothing there: there are http, https, no_proxy.",
        ),
        ({"rke2_node_proxy": {"no_proxy": "a, b"}}, "rke2_node_proxy.no_proxy has spaces: put commas"),
        (
            {"rke2_node_extra_packages": ["vim git"]},
            "rke2_node_extra_packages has 'vim git', which is no name of a package",
        ),
        ({"rke2_node_extra_packages": ["--nogpgcheck"]}, "'--nogpgcheck', which is no name of a package"),
        (
            {"rke2_node_kernel_modules": ["/lib/x.ko"]},
            "rke2_node_kernel_modules has '/lib/x.ko', which is no kernel module",
        ),
        (
            {"rke2_node_unmanaged_interfaces": ["lxc*;eth0"]},
            "rke2_node_unmanaged_interfaces has 'lxc*;eth0', which is no interface",
        ),
        ({"rke2_node_journal_max_use": "1 GB"}, "rke2_node_journal_max_use is '1 GB', which is no size"),
        (
            {"rke2_node_kernel_settings": {"swappiness": 1}},
            "has 'swappiness', which is no setting of the kernel: write it as sysctl",
        ),
        (
            {"rke2_node_kernel_settings": {"vm.swappiness=1": ""}},
            "'vm.swappiness=1', which is no setting of the kernel",
        ),
        (
            {"rke2_node_kernel_settings": {"vm.swappiness": True}},
            "'vm.swappiness' with a value that the kernel does not take",
        ),
        ({"rke2_node_config": {"token": SECRET}}, "rke2_node_config.token is a secret: take it out"),
        ({"rke2_node_config": {"etcd-s3-secret-key": SECRET}}, "rke2_node_config.etcd-s3-secret-key is a secret"),
        (
            {"rke2_node_registries": {"mirror": {}}},
            "rke2_node_registries has 'mirror', which means nothing there: did you mean mirrors?",
        ),
        ({"rke2_node_registries": {"mirrors": {"docker.io": {"endpoints": []}}}}, "mirrors.docker.io has 'endpoints'"),
        (
            {"rke2_node_registries": {"configs": {"h": {"tls": {"insecure": True}}}}},
            "rke2_node_registries.configs.h.tls has 'insecure', which means nothing there: there are ca_file",
        ),
        (
            {"rke2_node_registries": {"configs": {"h": {"auth": {"pass": SECRET}}}}},
            "configs.h.auth has 'pass', which means nothing there: did you mean password?",
        ),
    ],
)
def test_a_bad_node_is_told_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    (told,) = _node_rke2.check(values)
    assert sentence in told
    assert SECRET not in told


def test_right_variables_of_a_node_are_not_complained_about() -> None:
    defaults = yaml.safe_load((ROOT / "roles/rke2_node/defaults/main.yml").read_text())
    plain = {name: value for name, value in defaults.items() if "{{" not in str(value)}
    assert _node_rke2.check({}) == [] and _node_rke2.check(plain) == []
    right = {
        "rke2_node_family": "debian",
        "rke2_node_time_daemon": "systemd-timesyncd",
        "rke2_node_root_ca_certificate": f"# ours\n{PEM}{PEM}",
        "rke2_node_airgapped": True,
        "rke2_node_yum_repositories": {**MIRROR, "two": {"baseurl": ["http://a/1", "http://b/1"], "gpgcheck": True}},
        "rke2_node_proxy": {"http": "http://proxy:3128", "https": "http://proxy:3128", "no_proxy": ".svc,10.0.0.0/8"},
        "rke2_node_extra_packages": ["vim", "libstdc++", "java-17-openjdk-headless"],
        "rke2_node_kernel_settings": {
            "net.ipv4.conf.eth0/5.rp_filter": 0,
            "net.ipv4.ip_local_port_range": "1024 65000",
        },
        "rke2_node_config": {"kubelet-arg+": ["max-pods=200"], "token-file": "/run/token", "secrets-encryption": True},
        "rke2_node_registries": {
            "mirrors": {"docker.io": {"endpoint": ["https://h"], "rewrite": {"^(.*)$": "proxy/$1"}}},
            "configs": {"h": {"auth": {"username": "a", "password": SECRET}, "tls": {"ca_file": "/x"}}},
        },
    }
    assert _node_rke2.check(right) == []
    changed = {"rke2_node_yum_repositories": {_node_rke2.RANCHER: {"priority": 1}}}
    assert _node_rke2.check(changed) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"cilium_l2_interfaces": []},
            "cilium_l2_interfaces is empty, by which Cilium announces on every interface: name",
        ),
        ({"cilium_l2_interfaces": ["^eth[1$"]}, "cilium_l2_interfaces has '^eth[1$', which is no regular expression"),
        (
            {"cilium_l2_interfaces": ["^(?!eth0)"]},
            "'^(?!eth0)', which is no regular expression: write one as Go has them",
        ),
        ({"cilium_l2_pool": "198.51.100.2"}, "cilium_l2_pool is '198.51.100.2', which is no range of addresses"),
        (
            {"cilium_l2_pool": "", "cilium_l2_by_manifest_file": True, "platform_load_balancer_pool": None},
            "cilium_l2_pool is ''",
        ),
        (
            {"cilium_l2_pool": "192.0.2.2-192.0.2.9"},
            "is not inside platform_services_network (198.51.100.0/24): choose",
        ),
        (
            {"cilium_l2_pool": "10.43.0.1-10.43.0.9", "platform_services_network": "10.43.0.0/24"},
            "platform_service_cidr (10.43.0.0/16) overlap",
        ),
        (
            {"cilium_l2_pool": "10.42.9.1-10.42.9.9", "platform_services_network": "10.42.9.0/24"},
            "platform_pod_cidr (10.42.0.0/16) overlap",
        ),
        (
            {"platform_load_balancer_pool": "198.51.100.250-198.51.100.255"},
            "has 198.51.100.255, the broadcast address: leave",
        ),
    ],
)
def test_a_bad_pool_is_told_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    (told,) = _node_cilium_l2.check({**SHARED, **values})
    assert sentence in told


def test_a_right_pool_is_not_complained_about() -> None:
    assert _node_cilium_l2.check({}) == []
    assert _node_cilium_l2.check({**SHARED, "cilium_l2_pool": SHARED["platform_load_balancer_pool"]}) == []
    assert _node_cilium_l2.check({**SHARED, "cilium_l2_interfaces": ["^eth1$", "^ens[0-9]+$"]}) == []
    assert _node_cilium_l2.check({**SHARED, "cilium_l2_enabled": False, "cilium_l2_interfaces": []}) == []


def test_the_shared_pool_outside_of_its_network_is_told_once() -> None:
    bad = {**SHARED, "platform_load_balancer_pool": "192.0.2.2-192.0.2.9", "platform_load_balancer_ip": "192.0.2.2"}
    (told,) = [*_configuration.check_networks(bad), *_node_cilium_l2.check(bad)]
    assert "platform_load_balancer_pool (192.0.2.2-192.0.2.9) is not inside platform_services_network" in told


def test_a_credential_in_an_address_or_a_key_of_a_repository_is_told() -> None:
    repository = {"baseurl": "https://mirror.example.com/a", "proxy_password": "x"}
    (told,) = _node_rke2.check({"rke2_node_yum_repositories": {"mirror": repository}})
    assert "mirror.proxy_password holds a credential" in told
    (told,) = _node_rke2.check({"rke2_node_config": {"etcd-s3-proxy": "http://user:word@proxy.example.com"}})
    assert told.startswith("rke2_node_config.etcd-s3-proxy is a secret")


def test_a_node_belongs_to_a_cluster_of_the_inventory() -> None:
    check = _configuration_nodes.check_cluster
    assert check({}, []) == check({"rke2_node_cluster": "lab"}, ["lab"]) == []
    assert check({"rke2_node_cluster": "lba"}, ["lab", "other"]) == [
        "rke2_node_cluster is 'lba', which is no host of the group rke2_clusters: "
        "name one of them (there is lab, other), or leave the variable out."
    ]
