# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The firewall's bad inputs, each with its sentence, and its rules for both kinds of node."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _node_part
from ansible_collections.harvester_rke2.platform.plugins.module_utils._node_firewall import check
from ansible_collections.harvester_rke2.platform.plugins.plugin_utils import _node_parts

SSH = {"port": 22, "protocol": "tcp"}
WEB = {"port": 8443, "protocol": "tcp"}
MINE = ["10.0.0.0/8"]


def ports(*entries: Any) -> dict[str, Any]:
    return {"node_firewall_ports": [SSH, *entries]}


BAD = {
    "no port": (ports({"protocol": "tcp"}), "node_firewall_ports[1].port is '', which is no port: write a port"),
    "a name": (ports({**WEB, "port": "https"}), "[1].port is 'https', which is no port"),
    "true": (ports({**WEB, "port": True}), "[1].port is 'True', which is no port"),
    "too high": (ports({**WEB, "port": 65536}), "[1].port is '65536', but ports are 1 to 65535"),
    "zero": (ports({**WEB, "port": "0-10"}), "[1].port is '0-10', but ports are 1 to 65535"),
    "reversed": (ports({**WEB, "port": "32767-30000"}), "a range that ends before it begins: write 30000-32767."),
    "protocol": (ports({**WEB, "protocol": "TCP"}), "[1].protocol is 'TCP': write tcp or udp"),
    "no protocol": (ports({"port": 8443}), "[1].protocol is '': write tcp or udp"),
    "source": (ports({**WEB, "sources": ["office"]}), "[1].sources has 'office', which is no network: write a network"),
    "host bits": (ports({**WEB, "sources": ["10.1.2.3/8"]}), "which is no network: write 10.0.0.0/8, whose host bits"),
    "sources": (ports({**WEB, "sources": "10.0.0.0/8"}), "[1].sources is no list: give a list of networks"),
    "nodes": (ports({**WEB, "nodes": "worker"}), "[1].nodes is 'worker': write all or control_plane."),
    "key": (ports({**WEB, "source": MINE}), "[1].source is no setting of a port: did you mean sources?"),
    "another key": (ports({**WEB, "x": 1}), "[1].x is no setting of a port: there are nodes, port, protocol,"),
    "purpose": (ports({**WEB, "purpose": 'a "b"'}), "[1].purpose cannot be shown in the rules: use at most 100"),
    "no mapping": (ports(8443), "node_firewall_ports[1] is no mapping: write it like {port: 8443, protocol: tcp}."),
    "no list": ({"node_firewall_extra_ports": 8443}, "node_firewall_extra_ports is no list: give a list of"),
    "no SSH": ({"node_firewall_ports": [WEB]}, "No entry opens node_firewall_ssh_port (22) on all nodes: open it in"),
    "SSH by UDP": ({"node_firewall_ports": [{**SSH, "protocol": "udp"}]}, "No entry opens node_firewall_ssh_port (22)"),
    "SSH on some": ({"node_firewall_ports": [{**SSH, "nodes": "control_plane"}]}, "No entry opens node_firewall_ssh"),
    "other SSH": (ports() | {"node_firewall_ssh_port": 2222}, "No entry opens node_firewall_ssh_port (2222) on all"),
    "SSH port": (ports() | {"node_firewall_ssh_port": "22-23"}, "node_firewall_ssh_port is '22-23': give sshd's port"),
    "contradiction": (
        ports(WEB) | {"node_firewall_extra_ports": [{**WEB, "port": "8000-9000", "sources": MINE}]},
        "node_firewall_ports[1] opens tcp 8443 to everybody, but node_firewall_extra_ports[0] restricts 8000-9000",
    ),
    "narrower contradiction": (
        ports(WEB, {**WEB, "port": "8443-8444"}) | {"node_firewall_sources": {8443: MINE}},
        "node_firewall_ports[2] opens tcp 8443-8444 to everybody, but node_firewall_ports[1] restricts 8443: give both",
    ),
    "narrower": (
        ports() | {"node_firewall_sources": {443: MINE}},
        "node_firewall_sources has the port '443', which no entry opens so: write it as there (22).",
    ),
    "narrower source": (ports() | {"node_firewall_sources": {22: ["10/8"]}}, "node_firewall_sources[22] has '10/8'"),
    "no narrower": ({"node_firewall_sources": MINE}, "node_firewall_sources is no mapping: give port to networks"),
    "cluster": ({"node_firewall_cluster_sources": ["10.0.0.300"]}, "node_firewall_cluster_sources has '10.0.0.300'"),
    "pods": ({"node_firewall_pod_cidrs": ["10.42.0.1/16"]}, "node_firewall_pod_cidrs has '10.42.0.1/16', which is no"),
    "short": ({"node_firewall_rollback_seconds": 5}, "node_firewall_rollback_seconds is '5': give 20 to 600"),
    "rate": ({"node_firewall_log_rate": "5 a minute"}, "node_firewall_log_rate is '5 a minute': write a number"),
}


@pytest.mark.parametrize(("values", "sentence"), BAD.values(), ids=BAD.keys())
def test_a_bad_input_has_one_sentence(values: dict[str, Any], sentence: str) -> None:
    [fault] = check(values)
    assert sentence in fault


@pytest.mark.parametrize(
    "values",
    [
        {},
        ports(),
        {"node_firewall_ports": [{"port": "20-30", "protocol": "tcp", "sources": MINE}]},
        {"node_firewall_ports": [WEB], "node_firewall_allow_no_ssh": True},
        ports({**WEB, "sources": MINE}, {**WEB, "nodes": "control_plane"}, {**WEB, "protocol": "udp"}),
        ports(WEB) | {"node_firewall_sources": {"8443": [*MINE, "fd00::/8"]}, "node_firewall_log_rate": ""},
    ],
)
def test_a_good_one_has_none(values: dict[str, Any]) -> None:
    assert check(values) == []


def part(**variables: Any) -> _node_part.Part:
    loader = DataLoader()
    found = _node_parts.load("node_firewall", variables, Templar(loader=loader), loader)
    assert found is not None
    return found


def rules(**variables: Any) -> str:
    [text] = [file["content"] for file in part(**variables)["files"] if file["path"].endswith("rules.nft")]
    return str(text)


def opened(text: str) -> set[str]:
    return set(re.findall(r"((?:tcp|udp) dport [-0-9]+) accept", text))


def test_the_defaults_have_no_fault() -> None:
    loader = DataLoader()
    seen = _node_parts.scope("node_firewall", {}, loader)
    templar = Templar(loader=loader, variables=seen)
    values = {name: templar.template(value) for name, value in seen.items() if name.startswith("node_firewall_")}
    assert check(values) == []


def test_what_only_a_control_plane_opens() -> None:
    more = {f"tcp dport {port}" for port in ("6443", "9345", "2379-2381", "10257", "10259")}
    worker, control_plane = opened(rules()), opened(rules(rke2_node_control_plane=True))
    assert control_plane - worker == more and worker < control_plane


def test_sources_are_split_by_family() -> None:
    text = rules(node_firewall_cluster_sources=["10.0.0.0/8", "fd00::/8"], node_firewall_sources={22: ["10.1.0.0/16"]})
    assert '\t\tip saddr { 10.0.0.0/8 } tcp dport 10250 accept comment "kubelet"\n' in text
    assert '\t\tip6 saddr { fd00::/8 } tcp dport 10250 accept comment "kubelet"\n' in text
    assert '\t\tip saddr { 10.1.0.0/16 } tcp dport 22 accept comment "SSH"\n' in text
    assert '\t\ttcp dport 30000-32767 accept comment "NodePorts"\n' in text
    assert "\t\ttcp dport 22 " not in text and "ip6 saddr { fd00::/8 } tcp dport 22 " not in text


def test_the_same_variables_give_the_same_bytes() -> None:
    assert part() == part()
    assert part()["digest"] != part(node_firewall_extra_ports=[WEB])["digest"]


def test_nothing_of_others_is_flushed() -> None:
    for file in part()["files"]:
        assert "flush" not in file["content"] and "forward" not in file["content"].replace("what is forwarded", "")


def test_both_families_get_the_same() -> None:
    assert part(rke2_node_family="debian") == part()


@pytest.mark.skipif(shutil.which("unshare") is None or shutil.which("nft") is None, reason="nft is not here")
def test_nft_takes_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.nft"
    extra = [{**WEB, "sources": [*MINE, "fd00::/8"], "purpose": "x" * 100}]
    path.write_text(rules(rke2_node_control_plane=True, node_firewall_extra_ports=extra))
    done = subprocess.run(["unshare", "-n", "nft", "-c", "-f", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
