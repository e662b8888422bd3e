# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What is open, what is dropped, and that no apply locks out whoever applies it: a worker, then a control plane."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
NODES = HERE.parents[1]
EVERYWHERE = [
    *(f"tcp/{port}" for port in (22, 10250, 30000, 32767, 4240, 4244, 4245, 9100, 9962, 9963, 9964, 9965)),
    *(f"udp/{port}" for port in (30000, 32767, 8472)),
]
CONTROL_PLANE = [f"tcp/{port}" for port in (6443, 9345, 2379, 2380, 2381, 10257, 10259)]
# Next to what is open, the other protocol, and what only replies may reach.
CLOSED = [
    *(f"tcp/{port}" for port in (80, 2378, 2382, 8472, 9961, 9966, 29999, 32768)),
    *(f"udp/{port}" for port in (68, 546, 4240, 8473, 10250, 29999, 32768)),
]
SHORT = {"node_firewall_rollback_seconds": 20}
NO_SSH: dict[str, Any] = {
    **SHORT,
    "node_firewall_ports": [{"port": 8443, "protocol": "tcp"}],
    "node_firewall_allow_no_ssh": True,
}


def serve(nodes: Any, sut: Any) -> None:
    """Have it listen on every port, on 22 with a real sshd; anew after a restart."""
    sut.run("systemctl stop listeners real-sshd")
    ipv6(sut, "eth1", 11)
    listened = " ".join([*EVERYWHERE[1:], *CONTROL_PLANE, *CLOSED])
    sut.out(f"systemd-run -q --collect --unit=listeners python3 /root/probe.py listen {listened}")
    # As sshd's own unit: connections are no part of it, and what stops it does not wait for them.
    sshd = "systemd-run -q --collect --unit=real-sshd -p KillMode=process /usr/sbin/sshd -D"
    sut.out(f"ssh-keygen -A && mkdir -p /run/sshd && {sshd}")
    assert nodes.eventually(lambda: ask(sut, "127.0.0.1", [*EVERYWHERE[:1], *CLOSED[-1:]], 1) == {"open"})


def ipv6(member: Any, interface: str, number: int) -> None:
    """Podman gives out IPv4 only."""
    member.out(f"sysctl -q -w net.ipv6.conf.{interface}.disable_ipv6=0")
    member.out(f"ip -6 address replace fd00:64::{number}/64 dev {interface} nodad")


def ask(member: Any, address: str, ports: list[str], seconds: float = 1.5) -> set[str]:
    """How these ports answer: open, refused, dropped; one that differs from the rest is named."""
    found = json.loads(member.out(f"python3 /root/probe.py ask {address} {seconds} {' '.join(ports)}"))
    print(found)
    return set(found.values())


@pytest.fixture(scope="session", autouse=True)
def _listening(sut: Any, peer: Any, client: Any, nodes: Any) -> Iterator[None]:
    for member in (sut, peer, client):
        copied = ["podman", "cp", str(HERE / "probe.py"), f"{member.name}:/root/probe.py"]
        subprocess.run(copied, check=True, capture_output=True)
    serve(nodes, sut)
    ipv6(peer, "eth0", 12)
    yield
    sut.run("systemctl stop listeners real-sshd")


@pytest.fixture(scope="session")
def key(sut: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    public = path.with_suffix(".pub").read_text().strip()
    sut.out(f"mkdir -p -m 0700 /root/.ssh && echo '{public}' > /root/.ssh/authorized_keys")
    return path


def ssh_options(nodes: Any) -> list[str]:
    """Through the client's container, as this machine is on no network of theirs: all come from outside."""
    words = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"]
    words.append(f"ProxyCommand=podman exec -i {nodes['client'].name} nc %h %p")
    return [option for word in words for option in ("-o", word)]


def apply(nodes: Any, key: Path, variables: dict[str, Any], *options: str) -> subprocess.Popen[str]:
    """Begin to apply the role over SSH."""
    over = {
        "ansible_connection": "ssh",
        "ansible_host": nodes.address("nodes", 11),
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": shlex.join(ssh_options(nodes)),
    }
    words = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(NODES / "inventory.yml"), *options]
    words += ["-e", json.dumps(over | variables), str(HERE.parent / "converge.yml")]
    collections = NODES.parents[1] / ".ansible" / "collections"
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_CONFIG"}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_PIPELINING": "1"}
    # Molecule wants colours.
    environment |= {"ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    environment.setdefault("ANSIBLE_HOME", str(key.parent / "home"))
    return subprocess.Popen(
        words, cwd=key.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended(run: subprocess.Popen[str]) -> tuple[int, str]:
    text = run.communicate(timeout=240)[0]
    print(text)
    return run.returncode, text


def in_place(sut: Any) -> str:
    """The rules on disk and in the kernel."""
    return str(sut.out("cat /etc/node-firewall/rules.nft; nft -s list table inet node_firewall"))


def comes_in(nodes: Any, key: Path) -> bool:
    """Whether a new SSH connection comes through."""
    words = ["ssh", "-i", str(key), *ssh_options(nodes), "-o", "ConnectTimeout=3"]
    words += [f"root@{nodes.address('nodes', 11)}", "true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.mark.behaviour
def test_what_is_not_in_the_table_is_dropped(nodes: Any, client: Any) -> None:
    assert ask(client, nodes.address("nodes", 11), CLOSED) == {"dropped"}


@pytest.mark.behaviour
def test_a_worker_drops_what_only_a_control_plane_needs(nodes: Any, client: Any) -> None:
    assert ask(client, nodes.address("nodes", 11), CONTROL_PLANE) == {"dropped"}


@pytest.mark.behaviour
def test_ipv6_is_not_forgotten(peer: Any) -> None:
    assert ask(peer, "fd00:64::11", CLOSED + CONTROL_PLANE) == {"dropped"}


def test_the_table_is_open(nodes: Any, client: Any, peer: Any) -> None:
    assert ask(client, nodes.address("nodes", 11), EVERYWHERE) == {"open"}
    assert ask(peer, "fd00:64::11", EVERYWHERE) == {"open"}


def test_a_neighbour_is_found_and_pinged(nodes: Any, sut: Any, client: Any, peer: Any) -> None:
    client.out(f"ping -c 1 -w 3 {nodes.address('nodes', 11)}")
    sut.out("ip -6 neigh flush dev eth1")
    peer.out("ip -6 neigh flush dev eth0; ping -c 1 -w 3 fd00:64::11")


def test_replies_and_the_loopback_come_in(nodes: Any, sut: Any, peer: Any) -> None:
    peer.out("systemd-run -q --collect --unit=listeners python3 /root/probe.py listen tcp/80 udp/80")
    assert nodes.eventually(lambda: ask(peer, "127.0.0.1", ["tcp/80"], 1) == {"open"})
    assert ask(sut, nodes.address("services", 12), ["tcp/80", "udp/80"]) == {"open"}
    assert ask(sut, "127.0.0.1", CLOSED) == {"open"}


def test_a_dhcp_server_is_heard(nodes: Any, sut: Any, peer: Any) -> None:
    assert peer.run(f"echo offer | nc -u -p 67 -w 2 {nodes.address('services', 11)} 68").stdout == "offer\n"
    [link_local] = [
        word for word in sut.out("ip -6 address show dev eth1 scope link").replace("/", " ").split() if "fe80" in word
    ]
    assert ask(peer, f"{link_local}%eth0", ["udp/546"]) == {"open"}


def test_pods_reach_their_node(nodes: Any, sut: Any, peer: Any) -> None:
    address = nodes.address("services", 11)
    peer.out(f"ip address add 10.42.7.7/32 dev lo && ip route add {address} dev eth0 src 10.42.7.7")
    sut.out(f"ip route add 10.42.7.7 via {nodes.address('services', 12)}")
    assert ask(peer, address, CLOSED + CONTROL_PLANE) == {"open"}
    peer.out(f"ip route del {address} dev eth0 src 10.42.7.7")
    assert ask(peer, address, CLOSED) == {"dropped"}


def test_drops_are_counted_and_logged(sut: Any) -> None:
    rules = sut.out("nft list chain inet node_firewall input").splitlines()
    assert any('limit rate 5/minute burst 10 packets log prefix "node-firewall: "' in rule for rule in rules)
    assert "counter packets 0 " not in rules[-3] and 'comment "dropped"' in rules[-3]


def test_it_is_still_so_after_a_restart(nodes: Any, sut: Any, client: Any, peer: Any, router: Any) -> None:
    before = in_place(sut)
    sut.restart()
    assert in_place(sut) == before
    early = sut.out("systemctl show -p Before --value node-firewall.service")
    assert "network-pre.target" in early.split()
    sut.out(f"ip route replace default via {nodes.address('nodes', 2)}")
    serve(nodes, sut)
    address = nodes.address("nodes", 11)
    # They know the interfaces that were there before.
    router.out("ip neigh flush dev eth0")
    peer.out("ip neigh flush dev eth0; ip -6 neigh flush dev eth0")
    assert ask(client, address, EVERYWHERE) == {"open"}
    assert nodes.eventually(lambda: ask(peer, "fd00:64::11", EVERYWHERE) == {"open"})
    assert ask(client, address, CLOSED) == {"dropped"}


def test_check_mode_shows_the_rules_and_changes_nothing(nodes: Any, sut: Any, key: Path) -> None:
    before = in_place(sut)
    sut.out("nft insert rule inet node_firewall input tcp dport 99 accept")
    by_hand = in_place(sut)
    extra = {"node_firewall_extra_ports": [{"port": 8443, "protocol": "udp", "purpose": "mine"}]}
    code, text = ended(apply(nodes, key, extra, "--check", "--diff"))
    assert code == 0
    assert '+\t\tudp dport 8443 accept comment "mine"' in text
    # What was changed by hand is told, too.
    assert re.search(r"TASK \[[^]]* at the rules in the kernel\] \*+\nchanged: ", text)
    assert in_place(sut) == by_hand
    sut.out("systemctl reload node-firewall")
    assert in_place(sut) == before


def test_a_run_that_is_killed_on_trial_is_taken_back(nodes: Any, sut: Any, key: Path) -> None:
    before = in_place(sut)
    run = apply(nodes, key, NO_SSH)
    assert nodes.eventually(lambda: "dport 8443" in sut.out("nft list table inet node_firewall"), 90)
    run.kill()
    assert not comes_in(nodes, key)
    assert nodes.eventually(lambda: comes_in(nodes, key), 40)
    assert in_place(sut) == before
    run.communicate(timeout=60)


def test_an_apply_that_locks_ssh_out_is_taken_back(nodes: Any, sut: Any, key: Path) -> None:
    """On a node that has had no firewall yet: SSH's connection is older than any rule."""
    sut.out("systemctl disable -q --now node-firewall; rm -r /etc/node-firewall /run/node-firewall /var/lib/rke2-node")
    code, text = ended(apply(nodes, key, NO_SSH))
    assert code != 0
    assert "no new connection came through within 10 s, so the node took them back" in " ".join(text.split())
    assert comes_in(nodes, key)
    assert sut.out("nft list ruleset; ls /etc/node-firewall 2>/dev/null || true") == ""


def control_plane(nodes: Any) -> dict[str, Any]:
    """With sources for what nodes alone need, and others for the API."""
    return {
        # For half of it a new connection is waited for, beside another scenario's containers on two cores.
        "node_firewall_rollback_seconds": 120,
        "rke2_node_control_plane": True,
        "node_firewall_cluster_sources": [f"{nodes.address('outside', 0)}/24", "fd00:64::/64"],
        "node_firewall_sources": {"6443": [f"{nodes.address('services', 0)}/24"]},
    }


def test_the_next_run_makes_it_a_control_plane(nodes: Any, sut: Any, client: Any, peer: Any, key: Path) -> None:
    """From a bare node over SSH, beside somebody else's table."""
    sut.out("nft 'add table ip others; add chain ip others input { type filter hook input priority 10; }'")
    sut.out("nft 'add rule ip others input tcp dport 99 counter'")
    others = sut.out("nft list table ip others")
    assert ended(apply(nodes, key, control_plane(nodes)))[0] == 0
    addresses = nodes.address("nodes", 11), nodes.address("services", 11)
    assert ask(client, addresses[0], EVERYWHERE + CONTROL_PLANE[1:]) == {"open"}
    assert ask(peer, "fd00:64::11", EVERYWHERE + CONTROL_PLANE[1:]) == {"open"}
    assert ask(client, addresses[0], [*CLOSED, CONTROL_PLANE[0]]) == {"dropped"}
    assert ask(peer, addresses[1], CONTROL_PLANE[:1]) == {"open"}
    assert ask(peer, addresses[1], [*CONTROL_PLANE[1:], "tcp/10250", "udp/8472", "tcp/9100"]) == {"dropped"}
    sut.out("systemctl restart node-firewall")
    assert sut.out("nft list table ip others") == others
    sut.out("systemctl stop node-firewall")
    assert sut.out("nft list tables") == "table ip others"
    sut.out("systemctl start node-firewall; nft delete table ip others")


def test_rules_changed_by_hand_are_put_right(nodes: Any, sut: Any, key: Path) -> None:
    before = in_place(sut)
    sut.out("nft insert rule inet node_firewall input tcp dport 80 accept")
    assert ended(apply(nodes, key, control_plane(nodes)))[0] == 0
    assert in_place(sut) == before


def test_another_firewall_is_refused(nodes: Any, sut: Any, key: Path) -> None:
    sut.out("nft 'add table ip others; add chain ip others mine { type filter hook input priority 10; policy drop; }'")
    refused = sut.run("node-firewall check")
    sut.out("nft delete table ip others")
    assert refused.returncode == 1 and "the chain 'ip others mine' drops what comes in" in refused.stderr
    sut.out("systemd-run -q --unit=firewalld sleep 600")
    code, text = ended(apply(nodes, key, {}, "--check"))
    sut.out("systemctl stop firewalld")
    assert code != 0 and "firewalld is active, and would drop what is opened here" in text
    assert sut.out("node-firewall check") == "loaded"
