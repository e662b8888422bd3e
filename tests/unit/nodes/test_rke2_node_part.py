# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Every path, package and unit name of both families, and what the variables make of the files."""

from __future__ import annotations

import configparser
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _node_part
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _node_parts

ROOT = Path(__file__).resolve().parents[3]
PEM = (ROOT / "molecule/nodes/rke2_node/files/root-ca.crt").read_text()
ANCHORS = {"redhat": "/etc/pki/ca-trust/source/anchors", "debian": "/usr/local/share/ca-certificates"}
OIDC_CA = "/etc/pki/ca-trust/source/anchors/platform-root-ca.crt"
REPOSITORIES = "/etc/yum.repos.d/platform.repo"


def part(role: str = "rke2_node", **variables: Any) -> dict[str, Any]:
    loader = DataLoader()
    found = _node_parts.load(role, variables, Templar(loader=loader, variables=variables), loader)
    assert found is not None
    return found


def content(of: dict[str, Any], path: str) -> str:
    return next(file["content"] for file in of["files"] if file["path"] == path)


ALWAYS = [
    "/etc/NetworkManager/conf.d/90-rke2.conf",
    "/etc/modules-load.d/90-rke2.conf",
    "/etc/sysctl.d/90-rke2.conf",
    "/etc/systemd/journald.conf.d/90-rke2.conf",
]


@pytest.mark.parametrize(
    ("family", "packages", "time", "trust", "more"),
    [
        (
            "redhat",
            ["chrony", "iptables-nft", "NetworkManager", "nftables", "qemu-guest-agent", "rke2-selinux"],
            "chronyd.service",
            "update-ca-trust",
            [REPOSITORIES],
        ),
        (
            "debian",
            ["iptables", "network-manager", "nftables", "qemu-guest-agent", "systemd-timesyncd"],
            "systemd-timesyncd.service",
            "update-ca-certificates",
            [],
        ),
    ],
)
def test_the_names_of_a_family(family: str, packages: list[str], time: str, trust: str, more: list[str]) -> None:
    found = part(rke2_node_family=family, platform_root_ca_certificate=PEM, rke2_node_mirror_ca_certificate=PEM)
    assert found["packages"] == packages
    anchors = [f"{ANCHORS[family]}/platform-{which}-ca.crt" for which in ("root", "mirror")]
    assert [file["path"] for file in found["files"]] == anchors + more + ALWAYS
    assert {file["mode"] for file in found["files"]} == {"0644"}
    assert found["early"] == [[trust]]
    assert [(unit["name"], unit["masked"]) for unit in found["units"]] == [
        ("nm-cloud-setup.timer", True),
        ("nm-cloud-setup.service", True),
        ("swap.target", True),
        (time, False),
        ("qemu-guest-agent.service", False),
    ]
    assert found["commands"] == [
        ["sysctl", "-q", "-p", "/etc/sysctl.d/90-rke2.conf"],
        ["systemctl", "try-reload-or-restart", "NetworkManager.service"],
        ["systemctl", "restart", "systemd-modules-load.service"],
        ["systemctl", "restart", "systemd-journald.service"],
        ["journalctl", "--flush"],
        ["systemctl", "stop", "*.swap"],
    ]
    assert found["environment"] == {}


@pytest.mark.parametrize(("family", "unit"), [("redhat", "chronyd.service"), ("debian", "chrony.service")])
def test_chrony_has_two_names(family: str, unit: str) -> None:
    found = part(rke2_node_family=family, rke2_node_time_daemon="chrony")
    assert "chrony" in found["packages"] and "systemd-timesyncd" not in found["packages"]
    assert unit in [one["name"] for one in found["units"]]


def test_switches_leave_packages_and_units_out() -> None:
    found = part(rke2_node_guest_agent=False, rke2_node_time_daemon="none", rke2_node_swap_off=False)
    assert found["packages"] == ["iptables-nft", "NetworkManager", "nftables", "rke2-selinux"]
    assert [unit["name"] for unit in found["units"]] == ["nm-cloud-setup.timer", "nm-cloud-setup.service"]
    assert ["systemctl", "stop", "*.swap"] not in found["commands"]
    assert part(rke2_node_extra_packages=["vim", "chrony"])["packages"].count("chrony") == 1


def test_the_root_ca_is_where_the_api_server_looks_for_it() -> None:
    assert content(part(platform_root_ca_certificate=PEM), OIDC_CA) == PEM.strip() + "\n"
    assert OIDC_CA in (ROOT / "roles/rke2_cluster/templates/cluster/global-config.yml.j2").read_text()


def test_what_others_may_have_written_is_not_removed() -> None:
    assert part()["absent"] == [
        f"{ANCHORS['redhat']}/platform-mirror-ca.crt",
        "/etc/rancher/rke2/config.yaml.d/90-platform.yaml",
    ]


def repositories(**variables: Any) -> dict[str, dict[str, str]]:
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.read_string(content(part(**variables), REPOSITORIES))
    return {name: dict(parsed[name]) for name in parsed.sections()}


def test_rancher_s_repository_is_there_beside_the_given_ones() -> None:
    rancher = {
        "name": "Rancher RKE2 Common (stable)",
        "baseurl": "https://rpm.rancher.io/rke2/stable/common/centos/9/noarch",
        "enabled": "1",
        "gpgcheck": "1",
        "gpgkey": "https://rpm.rancher.io/public.key",
    }
    assert repositories() == {"rancher-rke2-common-stable": rancher}
    mine = {"baseurl": ["https://a/9", "https://b/9"], "gpgcheck": False}
    found = repositories(
        rke2_node_yum_repositories={"mine": mine, "rancher-rke2-common-stable": {"gpgkey": "file:///k"}}
    )
    assert found == {
        "mine": {"name": "mine", "baseurl": "https://a/9 https://b/9", "gpgcheck": "0"},
        "rancher-rke2-common-stable": {**rancher, "gpgkey": "file:///k"},
    }


def test_airgapped_only_the_given_repositories_are_left(tmp_path: Path) -> None:
    given = {"rke2_node_airgapped": True, "rke2_node_yum_repositories": {"mine": {"baseurl": "https://a/9"}}}
    assert list(repositories(**given)) == ["mine"]
    off = part(**given)["early"][-1]
    (tmp_path / "platform.repo").write_text("[mine]\nbaseurl=https://a/9\n")
    # One says that it is on, the other does not: on is what dnf takes that for.
    (tmp_path / "rocky.repo").write_text("[baseos]\nenabled=1\ngpgcheck=1\n\n[appstream]\ngpgcheck=1\n")
    for _ in range(2):
        subprocess.run([word.replace("/etc/yum.repos.d", str(tmp_path)) for word in off], check=True)
    left = configparser.ConfigParser()
    left.read(tmp_path / "rocky.repo")
    assert {name: dict(left[name]) for name in left.sections()} == {
        "baseos": {"enabled": "0", "gpgcheck": "1"},
        "appstream": {"enabled": "0", "gpgcheck": "1"},
    }
    assert (tmp_path / "platform.repo").read_text() == "[mine]\nbaseurl=https://a/9\n"
    assert not any("sed" in argv for argv in part()["early"] + part(**given, rke2_node_family="debian")["early"])


def test_the_proxy_is_rke2_s_and_the_packages() -> None:
    found = part(rke2_node_proxy={"http": "http://p:3128", "no_proxy": ".svc,10.0.0.0/8"})
    assert found["environment"] == {
        "HTTP_PROXY": "http://p:3128",
        "http_proxy": "http://p:3128",
        "NO_PROXY": ".svc,10.0.0.0/8",
        "no_proxy": ".svc,10.0.0.0/8",
    }
    for unit in ("rke2-server", "rke2-agent"):
        lines = content(found, f"/etc/default/{unit}").splitlines()
        assert lines[1:] == ["HTTP_PROXY=http://p:3128", "NO_PROXY=.svc,10.0.0.0/8"]


def test_the_kernel_gets_what_the_cis_profile_wants() -> None:
    assert part()["sysctl"] == {
        "fs.inotify.max_user_instances": "8192",
        "fs.inotify.max_user_watches": "524288",
        "kernel.panic": "10",
        "kernel.panic_on_oops": "1",
        "vm.overcommit_memory": "1",
        "vm.panic_on_oom": "0",
    }
    assert content(part(), "/etc/modules-load.d/90-rke2.conf").splitlines()[1:] == ["br_netfilter", "overlay"]


def test_networkmanager_and_journald_can_read_theirs() -> None:
    found = part()
    network = configparser.ConfigParser()
    network.read_string(content(found, "/etc/NetworkManager/conf.d/90-rke2.conf"))
    assert network["keyfile"]["unmanaged-devices+"] == "interface-name:cilium*;interface-name:lxc*"
    journal = configparser.ConfigParser()
    journal.read_string(content(found, "/etc/systemd/journald.conf.d/90-rke2.conf"))
    assert dict(journal["Journal"]) == {"storage": "persistent", "systemmaxuse": "1G"}


def test_rke2_s_files_are_root_s_alone_and_registries_never_in_user_data() -> None:
    config = {"node-label": ["a=b"], "debug": True}
    found = part(rke2_node_config=config, rke2_node_registries={"mirrors": {"docker.io": {"endpoint": ["https://h"]}}})
    fragment = next(file for file in found["files"] if file["path"].endswith("90-platform.yaml"))
    assert fragment["mode"] == "0600" and yaml.safe_load(fragment["content"]) == config
    (registries,) = found["secret_files"]
    assert (registries["path"], registries["mode"]) == ("/etc/rancher/rke2/registries.yaml", "0600")
    with pytest.raises(PlatformError, match=r"registries\.yaml of rke2_node into user data: it holds a secret"):
        _node_part.cloud_config({"rke2_node": found}, ["dnf"])


def test_the_same_variables_give_the_same_bytes() -> None:
    variables = {
        "rke2_node_config": {"b": 1, "a": 2},
        "rke2_node_yum_repositories": {"z": {"baseurl": "https://z"}, "a": {"baseurl": "https://a"}},
    }
    turned = json.loads(json.dumps(variables))
    turned = {name: dict(reversed(value.items())) for name, value in reversed(turned.items())}
    assert part(**variables) == part(**turned)


def test_a_changed_file_is_put_to_work_again() -> None:
    assert part()["digest"] == part()["digest"] != part(rke2_node_journal_max_use="2G")["digest"]
