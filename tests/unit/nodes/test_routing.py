# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""policy_routing: what it renders, and what it refuses."""

from __future__ import annotations

import configparser
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _node_part
from ansible_collections.harvester_rke2.platform.plugins.module_utils._node_routing import check
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _node_parts

SCRIPT = "/etc/NetworkManager/dispatcher.d/10-ingress-routing"
NETWORK = {"platform_services_network": "198.51.100.0/24", "platform_load_balancer_pool": "198.51.100.2-198.51.100.20"}


def part(**variables: Any) -> dict[str, Any] | None:
    loader = DataLoader()
    return _node_parts.load("policy_routing", variables, Templar(loader=loader, variables={}), loader)


def files(**variables: Any) -> dict[str, str]:
    loaded = part(**variables)
    assert loaded is not None
    return {file["path"]: file["content"] for file in loaded["files"]}


def profile(**variables: Any) -> configparser.ConfigParser:
    name = variables.get("policy_routing_interface", "eth1")
    parser = configparser.ConfigParser()
    parser.read_string(files(**variables)[f"/etc/NetworkManager/system-connections/services-{name}.nmconnection"])
    return parser


def test_workers_have_it_and_the_control_plane_has_not() -> None:
    assert part() is not None
    assert part(rke2_node_control_plane=True) is None
    assert part(rke2_node_control_plane=True, policy_routing_enabled=True) is not None


@pytest.mark.parametrize("family", ["redhat", "debian"])
def test_each_family_gets_the_same_paths_modes_and_unit(family: str) -> None:
    loaded = part(rke2_node_family=family)
    assert loaded is not None
    assert {file["path"]: file["mode"] for file in loaded["files"]} == {
        "/etc/sysctl.d/91-policy-routing.conf": "0644",
        "/etc/iproute2/rt_tables.d/ingress.conf": "0644",
        "/etc/NetworkManager/system-connections/services-eth1.nmconnection": "0600",
        SCRIPT: "0755",
        "/etc/systemd/system/policy-routing-watch.service": "0644",
    }
    assert loaded["packages"] == []
    assert loaded["units"] == [{"name": "policy-routing-watch.service", "masked": False, "restart": True}]
    # The kernel is told before the interface comes up.
    assert loaded["commands"] == [
        ["sysctl", "-q", "-p", "/etc/sysctl.d/91-policy-routing.conf"],
        [SCRIPT, "eth1", "activate"],
    ]


def test_the_same_variables_give_the_same_bytes_and_another_pool_changes_none() -> None:
    """A changed byte would replace every worker; the LoadBalancer pool may grow without."""
    pool = {"platform_load_balancer_pool": "198.51.100.2-198.51.100.99"}
    other = {"platform_services_network": "192.0.2.0/24"}
    again = [_node_part.digest(part(**variables) or {}) for variables in ({}, {}, pool, other)]
    assert again[0] == again[1] == again[2] != again[3]


def test_the_profile_never_takes_the_default_route_and_stands_above_cloud_inits() -> None:
    text = profile()
    assert text["connection"]["type"] == "ethernet"
    assert text["connection"]["interface-name"] == "eth1"
    assert text["connection"].getint("autoconnect-priority") > 120
    assert dict(text["ipv4"]) == {
        "method": "auto",
        "never-default": "true",
        "ignore-auto-dns": "true",
        "ignore-auto-routes": "true",
    }
    assert dict(text["ipv6"]) == {"method": "disabled"}
    assert "vlan" not in text


def test_a_vlan_is_made_on_the_first_interface() -> None:
    text = profile(policy_routing_interface="eth0.5", policy_routing_vlan=5)
    assert text["connection"]["type"] == "vlan"
    assert text["connection"]["interface-name"] == "eth0.5"
    assert dict(text["vlan"]) == {"id": "5", "parent": "eth0"}
    assert text["connection"]["uuid"] != profile()["connection"]["uuid"]


def test_the_way_back_is_checked_loosely_on_what_is_there_already() -> None:
    path = "/etc/sysctl.d/91-policy-routing.conf"
    keys = "net/ipv4/conf/{}/rp_filter"
    assert _node_part.parse_sysctl(files()[path]) == {keys.format(name): "2" for name in ("eth0", "eth1")}
    # A VLAN's interface comes later, and a missing key would end the set-up.
    vlan = files(policy_routing_interface="eth0.5", policy_routing_vlan=5)
    assert _node_part.parse_sysctl(vlan[path]) == {keys.format(name): "2" for name in ("eth0",)}


def test_names_table_and_priorities_are_the_variables() -> None:
    own = {
        "policy_routing_interface": "ens4",
        "policy_routing_table": 300,
        "policy_routing_table_name": "services",
        "policy_routing_rule_priority": 210,
        "policy_routing_network_priority": 220,
        "policy_routing_gateway": "192.0.2.254",
        "policy_routing_network": "192.0.2.0/24",
    }
    there = files(**own)
    assert there["/etc/iproute2/rt_tables.d/services.conf"] == "300 services\n"
    lines = there[SCRIPT].splitlines()
    for line in ("interface=ens4", "gateway=192.0.2.254", "table=300", "network=192.0.2.0/24"):
        assert line in lines
    assert "own=$((210 - 1)) from_address=210 from_network=220" in lines
    assert f"{SCRIPT} ens4 watch" in there["/etc/systemd/system/policy-routing-watch.service"]


@pytest.mark.parametrize("shell", [["sh"], ["bash", "--posix"]])
def test_the_script_is_one_for_every_shell(shell: list[str], tmp_path: Path) -> None:
    """The network of an address is reckoned by it; `ip` is not asked."""
    text = files()[SCRIPT]
    assert subprocess.run([*shell, "-n"], input=text, text=True, check=False).returncode == 0
    function = text[text.index("network() {") : text.index("# Those of this table")]
    asked = {
        "198.51.100.11/24": "198.51.100.0/24",
        "10.255.255.254/9": "10.128.0.0/9",
        "255.255.255.255/32": "255.255.255.255/32",
        "192.0.2.130/25": "192.0.2.128/25",
        "203.0.113.9/30": "203.0.113.8/30",
    }
    calls = function + "\n".join(f"network {address}" for address in asked)
    done = subprocess.run([*shell, "-c", calls], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.split() == list(asked.values())


def test_the_defaults_are_fine() -> None:
    assert check({}) == []
    assert check(NETWORK) == []
    assert (
        check(
            {
                **NETWORK,
                "policy_routing_gateway": "198.51.100.1",
                "policy_routing_dhcp_range": "198.51.100.100-198.51.100.199",
            }
        )
        == []
    )
    assert check({"policy_routing_interface": "eth0.5", "policy_routing_vlan": 5}) == []


def test_where_it_is_off_nothing_is_refused() -> None:
    assert check({"policy_routing_enabled": False, "policy_routing_table": 254}) == []


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"gateway": "203.0.113.1"},
        "policy_routing_gateway is '203.0.113.1', which is outside of platform_services_network "
        "(198.51.100.0/24): give the router's address in that network, or leave it empty for DHCP's.",
    ),
    (
        {"gateway": "198.51.100.7"},
        "policy_routing_gateway is '198.51.100.7', which is in the LoadBalancer pool "
        "(198.51.100.2-198.51.100.20): give the router's address, or take it out of the range.",
    ),
    (
        {"gateway": "198.51.100.101", "dhcp_range": "198.51.100.100-198.51.100.199"},
        "policy_routing_gateway is '198.51.100.101', which is in policy_routing_dhcp_range "
        "(198.51.100.100-198.51.100.199): give the router's address, or take it out of the range.",
    ),
    (
        {"gateway": "198.51.100.255"},
        "policy_routing_gateway is '198.51.100.255', which no machine in 198.51.100.0/24 can have: give the "
        "router's address.",
    ),
    (
        {"gateway": "router"},
        "policy_routing_gateway is 'router', which is no address: give the router's address, or leave it "
        "empty for DHCP's.",
    ),
    (
        {"gateway": "2001:db8::1"},
        "policy_routing_gateway is '2001:db8::1', which is IPv6: give the router's IPv4 address: policy "
        "routing does no IPv6.",
    ),
    (
        {"dhcp_range": "198.51.100.15-198.51.100.99"},
        "platform_load_balancer_pool and policy_routing_dhcp_range share 198.51.100.15 to 198.51.100.20: move"
        " one of them: two machines would have one address.",
    ),
    (
        {"dhcp_range": "203.0.113.5-203.0.113.9"},
        "policy_routing_dhcp_range is outside of platform_services_network (198.51.100.0/24): give the range "
        "that DHCP serves in 198.51.100.0/24.",
    ),
    (
        {"dhcp_range": "198.51.100.100"},
        "policy_routing_dhcp_range is '198.51.100.100', which is no range of addresses: write it like "
        "198.51.100.2-198.51.100.20.",
    ),
    (
        {"interface": "eth0"},
        "policy_routing_interface and policy_routing_parent are both 'eth0': name the second interface: the "
        "first keeps the default route, and SSH comes by it.",
    ),
    (
        {"interface": "eth0", "vlan": 5},
        "policy_routing_interface and policy_routing_parent are both 'eth0': name the VLAN's interface, such "
        "as eth0.5.",
    ),
    (
        {"interface": "eth1; reboot"},
        "policy_routing_interface is 'eth1; reboot', which is no name of an interface: use at most 15 "
        "letters, digits, '-', '_' and '.', such as eth1.",
    ),
    (
        {"interface": "services-network"},
        "policy_routing_interface is 'services-network', which is no name of an interface: use at most 15 "
        "letters, digits, '-', '_' and '.', such as eth1.",
    ),
    (
        {"parent": "lo"},
        "policy_routing_parent is 'lo', which is no name of an interface: use at most 15 letters, digits, "
        "'-', '_' and '.', such as eth1.",
    ),
    (
        {"vlan": 4095},
        "policy_routing_vlan is '4095': choose a whole number from 0 to 4094.",
    ),
    (
        {"vlan": True},
        "policy_routing_vlan is 'True': choose a whole number from 0 to 4094.",
    ),
    (
        {"table": 0},
        "policy_routing_table is 0, which is the kernel's own: choose another, such as 200.",
    ),
    (
        {"table": 254},
        "policy_routing_table is 254, which is the kernel's own: choose another, such as 200.",
    ),
    (
        {"table": 2004},
        "policy_routing_table is 2004, which is Cilium's: choose another, such as 200.",
    ),
    (
        {"table": "ingress"},
        "policy_routing_table is 'ingress': choose a whole number from 0 to 4294967295.",
    ),
    (
        {"table_name": "main"},
        "policy_routing_table_name is 'main', which is a table of the kernel's: choose another, such as ingress.",
    ),
    (
        {"table_name": "../x"},
        "policy_routing_table_name is '../x', which is no name of a table: use at most 32 letters, digits, "
        "'-' and '_', beginning with a letter.",
    ),
    (
        {"rule_priority": 1},
        "policy_routing_rule_priority is '1': choose a whole number from 2 to 32765.",
    ),
    (
        {"network_priority": 32766},
        "policy_routing_network_priority is '32766': choose a whole number from 2 to 32765.",
    ),
    (
        {"network_priority": 100},
        "policy_routing_rule_priority and policy_routing_network_priority are both 100: give each its own, such "
        "as 100 and 101.",
    ),
    (
        {"network_priority": 99},
        "policy_routing_network_priority is 99, where the rule for what the node sends to itself is: choose 101.",
    ),
]


@pytest.mark.parametrize(("values", "sentence"), BAD, ids=[str(values) for values, _ in BAD])
def test_each_fault_is_one_sentence_that_says_the_mend(values: dict[str, Any], sentence: str) -> None:
    named = {f"policy_routing_{name}": value for name, value in values.items()}
    assert check({**NETWORK, **named}) == [sentence]


def test_an_ipv6_network_is_refused() -> None:
    assert check({"platform_services_network": "2001:db8::/64"}) == [
        "platform_services_network is '2001:db8::/64', which is IPv6: "
        "give it an IPv4 network: policy routing does no IPv6."
    ]
