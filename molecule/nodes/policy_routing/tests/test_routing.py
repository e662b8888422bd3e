# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A connection from another network is answered through the interface that it came by, as the router counts it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1]
PORT = 8080
SCRIPT = "/etc/NetworkManager/dispatcher.d/10-ingress-routing"
# The router's legs, by name of the network.
LEGS = {"nodes": "eth0", "services": "eth1"}
STRICT, LOOSE = 1, 2


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


@dataclass(frozen=True)
class Network:
    """The services network: its DHCP server, and what a client outside of it meets."""

    nodes: Any

    def serve(self, host: int = 11, router: bool = True) -> None:
        """Have DHCP give the node this address, renewed every four seconds; without leases of before."""
        at = self.nodes.address
        options = [
            "-k --port=0 --interface=eth0 --bind-interfaces --leasefile-ro --dhcp-authoritative",
            f"--dhcp-range={at('services', 50)},{at('services', 90)},2m --dhcp-host=sut,{at('services', host)}",
            "--dhcp-option-force=option:T1,4s --dhcp-option-force=option:T2,8s",
            f"--dhcp-option=option:router{',' + at('services', 2) if router else ''}",
        ]
        peer = self.nodes["peer"]
        peer.run("systemctl stop test-dhcp")
        peer.out(f"systemd-run --quiet --unit=test-dhcp dnsmasq {' '.join(options)}")

    def has(self, host: int) -> bool:
        """Whether the node has this address."""
        return f" {self.nodes.address('services', host)}/" in self.nodes["sut"].out("ip -4 -o address show dev eth1")

    def answers(self, address: str) -> dict[str, int]:
        """Packets of one connection from outside that came back, by the network through which they did."""
        router, client = self.nodes["router"], self.nodes["client"]
        rules = "; ".join(
            f"iifname {leg} ip saddr {address} tcp sport {PORT} counter comment {name}" for name, leg in LEGS.items()
        )
        router.out(
            "nft 'table ip seen; delete table ip seen; "
            f"table ip seen {{ chain seen {{ type filter hook prerouting priority 0; {rules}; }}; }}'"
        )
        client.run(f"nc -z -w 2 {address} {PORT}")
        found = json.loads(router.out("nft -j list chain ip seen seen"))["nftables"]
        listed = [entry["rule"] for entry in found if "rule" in entry]
        return {
            rule["comment"]: next(part["counter"]["packets"] for part in rule["expr"] if "counter" in part)
            for rule in listed
        }

    def is_symmetric(self, address: str) -> bool:
        """Whether such a connection is answered, and only through the interface that it came by."""
        seen = self.answers(address)
        return seen["services"] > 0 and seen["nodes"] == 0


@pytest.fixture(scope="session")
def network(nodes: Any) -> Network:
    return Network(nodes)


@pytest.fixture
def own(nodes: Any) -> str:
    """The address that DHCP gives to the node's second interface."""
    return str(nodes.address("services", 11))


@pytest.fixture(autouse=True)
def ready(nodes: Any, sut: Any, network: Network) -> None:
    """The node has its address, and something listens; Podman gives these networks no default route."""
    peer = nodes["peer"]
    if peer.run("systemctl is-active test-dhcp").stdout.strip() != "active":
        network.serve()
    if sut.run("systemctl is-active test-listener").stdout.strip() != "active":
        sut.out(f"systemd-run --quiet --unit=test-listener nc -lk {PORT}")
    sut.out(f"ip route replace default via {nodes.address('nodes', 2)}")
    if not eventually(lambda: network.has(11), 40):
        raise RuntimeError("DHCP gave the node no address")


@pytest.fixture
def watcher_off(sut: Any) -> Iterator[None]:
    """Only NetworkManager calls."""
    sut.run("systemctl stop policy-routing-watch")
    yield
    sut.run("systemctl start policy-routing-watch")


@pytest.mark.behaviour
def test_a_connection_is_answered_through_the_interface_that_it_came_by(network: Network, own: str) -> None:
    assert network.is_symmetric(own)


def test_the_first_interface_is_still_answered_through_itself(nodes: Any, network: Network) -> None:
    seen = network.answers(nodes.address("nodes", 11))
    assert seen["nodes"] > 0
    assert seen["services"] == 0


@pytest.mark.behaviour
def test_an_address_of_the_load_balancer_pool_is_answered_through_it(nodes: Any, sut: Any, network: Network) -> None:
    """As Cilium does: the reply bears the pool's address, which is on no interface of the services network."""
    of_the_pool = nodes.address("services", 117)
    sut.out(f"ip address replace {of_the_pool}/32 dev lo")
    try:
        assert network.is_symmetric(of_the_pool)
    finally:
        sut.out(f"ip address del {of_the_pool}/32 dev lo")


@pytest.mark.behaviour
def test_a_node_that_checks_the_way_back_strictly_is_reached(sut: Any, network: Network, own: str) -> None:
    keys = [f"net.ipv4.conf.{name}.rp_filter" for name in ("all", "eth0", "eth1")]
    before = sut.out(f"sysctl -n {' '.join(keys)}").split()
    sut.out(f"sysctl -w {' '.join(f'{key}={STRICT}' for key in keys)}")
    try:
        assert network.is_symmetric(own)
    finally:
        sut.out(f"sysctl -w {' '.join(f'{key}={value}' for key, value in zip(keys, before, strict=True))}")


@pytest.mark.behaviour
def test_the_interface_never_has_the_default_route(sut: Any) -> None:
    assert "dev eth1" not in sut.out("ip -4 route show table main default")


@pytest.mark.behaviour
@pytest.mark.usefixtures("watcher_off")
def test_after_down_and_up_by_networkmanager(sut: Any, network: Network, own: str) -> None:
    sut.out("nmcli device disconnect eth1")
    gone = sut.out("ip -4 rule show; ip -4 route show table 200 2> /dev/null || true")
    sut.out("nmcli device connect eth1")
    assert eventually(lambda: network.is_symmetric(own), 5)
    assert len(gone.splitlines()) == 3, gone


@pytest.mark.behaviour
def test_after_down_and_up_of_the_link(sut: Any, network: Network, own: str) -> None:
    """NetworkManager calls nobody for that, and the kernel has emptied the table."""
    sut.out("ip link set eth1 down")
    gone = eventually(lambda: own not in sut.out("ip -4 rule show"))
    sut.out("ip link set eth1 up")
    assert eventually(lambda: network.is_symmetric(own), 10)
    assert gone


@pytest.mark.behaviour
def test_after_the_address_has_changed(nodes: Any, sut: Any, network: Network, own: str) -> None:
    network.serve(host=13)
    try:
        if not eventually(lambda: network.has(13) and not network.has(11), 40):
            raise RuntimeError("the address did not change")
        assert eventually(lambda: network.is_symmetric(nodes.address("services", 13)), 5)
        assert f"from {own} " not in sut.out("ip -4 rule show")
    finally:
        network.serve()


@pytest.mark.behaviour
def test_a_gateway_that_dhcp_changes_is_followed(nodes: Any, sut: Any, network: Network, own: str) -> None:
    """Without one only the own network is answered through it, and the journal says so."""
    network.serve(router=False)
    try:
        default = "ip -4 route show table 200 default"
        assert eventually(lambda: "dev eth1" in sut.run("ip -4 route show table 200").stdout, 1)
        assert eventually(lambda: not sut.out(default), 15)
        assert sut.out("ip -4 route get to {} from {}".format(nodes.address("services", 12), own))
        assert "no gateway" in sut.out("journalctl -t ingress-routing -n 1 -o cat")
    finally:
        network.serve()
    assert eventually(lambda: network.is_symmetric(own), 15)


@pytest.mark.usefixtures("watcher_off")
def test_the_gateway_outlives_a_restart_of_networkmanager(sut: Any, network: Network, own: str) -> None:
    sut.out("systemctl restart NetworkManager")
    sut.out(f"{SCRIPT} eth1 apply")
    assert network.is_symmetric(own)


def test_nothing_is_done_again(sut: Any, network: Network, own: str) -> None:
    assert eventually(lambda: network.is_symmetric(own))
    watch = sut.in_background("timeout 4 ip -o monitor rule route")
    time.sleep(1)
    for action in ("up", "dhcp4-change", "reapply", "activate"):
        sut.out(f"{SCRIPT} eth1 {action}")
    assert watch.communicate(timeout=10)[0].strip() == ""


def test_another_interface_is_none_of_its_business(sut: Any) -> None:
    before = sut.out("ip -4 rule show")
    sut.out(f"{SCRIPT} eth0 down")
    assert sut.out("ip -4 rule show") == before


def test_the_node_reaches_itself_when_cilium_has_moved_the_local_rule(sut: Any, own: str) -> None:
    """Behind ours of the same priority, as it does on a fresh node."""
    sut.out("ip rule add priority 100 lookup local && ip rule del priority 0 lookup local")
    try:
        assert sut.out(f"ip -4 route get to {own} from {own}").startswith("local ")
    finally:
        sut.out("ip rule add priority 0 lookup local && ip rule del priority 100 lookup local")


def test_rules_that_an_earlier_version_made_are_removed(sut: Any) -> None:
    sut.out("ip rule add priority 77 from 192.0.2.7 lookup 201 && ip rule add priority 76 lookup local")
    sut.out("ip rule add priority 90 from 192.0.2.7 lookup 200 && echo 201 76 > /run/ingress-routing/made")
    sut.out(f"{SCRIPT} eth1 apply")
    priorities = [line.split(":")[0] for line in sut.out("ip -4 rule show").splitlines()]
    assert priorities == ["0", "99", "100", "101", "32766", "32767"]


def test_a_gateway_elsewhere_is_said(sut: Any) -> None:
    done = sut.run(f"sed 's/^gateway=.*/gateway=192.0.2.1/' {SCRIPT} > /run/wrong; sh /run/wrong eth1 apply")
    assert done.returncode == 1
    assert "default via 192.0.2.1 dev eth1" in done.stderr
    sut.out(f"{SCRIPT} eth1 apply")


def test_the_table_has_its_name_and_the_way_back_is_checked_loosely(nodes: Any, sut: Any) -> None:
    assert f"default via {nodes.address('services', 2)} dev eth1" in sut.out("ip -4 route show table ingress")
    keys = " ".join(f"net.ipv4.conf.{name}.rp_filter" for name in ("eth0", "eth1"))
    assert sut.out(f"sysctl -n {keys}").split() == [str(LOOSE)] * 2


def test_the_profile_is_its_owners_only(sut: Any) -> None:
    path = "/etc/NetworkManager/system-connections/services-eth1.nmconnection"
    assert sut.out(f"stat -c '%a %U' {path}") == "600 root"
    assert sut.out("nmcli -g GENERAL.CONNECTION device show eth1") == "services-eth1"
    assert sut.out("ip -6 address show dev eth1") == ""


def test_an_interface_that_the_node_does_not_have_is_refused_before_anything_is_written(sut: Any) -> None:
    where = {"ANSIBLE_COLLECTIONS_PATH": str(HERE.parents[2] / ".ansible/collections"), "ANSIBLE_FORCE_COLOR": "false"}
    words = ["ansible-playbook", "-i", HERE.parent / "inventory.yml", HERE / "converge.yml"]
    done = subprocess.run(
        [*words, "-e", "policy_routing_interface=eth7"],
        env={**os.environ, **where, "CONTAINERS_CONF": str(HERE.parent / "podman.conf")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    # Molecule has failures on standard error.
    said = " ".join((done.stdout + done.stderr).split())
    assert "policy_routing has no interface eth7, but eth0, eth1. Set policy_routing_interface, or" in said
    assert "eth7" not in sut.out("ls /etc/NetworkManager/system-connections; cat /etc/sysctl.d/91-policy-routing.conf")


@pytest.mark.behaviour
def test_after_a_restart(nodes: Any, sut: Any, network: Network, own: str) -> None:
    sut.restart()
    # Podman gives the interfaces other hardware addresses: the server would keep the address for the old one, and the
    # router would go on sending to it.
    network.serve()
    nodes["router"].out("ip neigh flush all")
    sut.out(f"systemd-run --quiet --unit=test-listener nc -lk {PORT}")
    sut.out(f"ip route replace default via {nodes.address('nodes', 2)}")
    if not eventually(lambda: network.has(11), 40):
        raise RuntimeError("DHCP gave the node no address")
    assert eventually(lambda: network.is_symmetric(own), 5)
