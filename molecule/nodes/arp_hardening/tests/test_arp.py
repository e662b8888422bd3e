# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""An address is answered for, and announced, on its own interface only."""

from __future__ import annotations

import time
from typing import Any

import pytest


def answered(peer: Any, address: str) -> bool:
    """Whether anybody answers the question for this address in the services network."""
    done = peer.run(f"arping -c 2 -w 3 -I eth0 {address}")
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


@pytest.mark.behaviour
def test_nobody_answers_for_the_other_interfaces_address(nodes: Any, peer: Any) -> None:
    assert not answered(peer, nodes.address("nodes", 11))


def test_its_own_address_is_answered_for(nodes: Any, peer: Any) -> None:
    assert answered(peer, nodes.address("services", 11))


@pytest.mark.behaviour
def test_its_own_questions_do_not_give_the_other_address_away(nodes: Any, sut: Any, peer: Any) -> None:
    own, other, asked = nodes.address("services", 11), nodes.address("nodes", 11), nodes.address("services", 12)
    watch = peer.in_background(
        f"timeout 6 tcpdump -l -n -i eth0 -c 1 'arp[6:2] == 1 and arp dst host {asked}' 2>/dev/null"
    )
    time.sleep(1.5)
    sut.run(f"ip neigh flush dev eth1; ping -c 1 -w 2 -I {other} {asked}")
    seen = watch.communicate(timeout=10)[0]
    if "who-has" not in seen:
        raise RuntimeError(f"no question was seen: {seen!r}")
    assert f"tell {own}" in seen


def test_it_is_still_so_after_a_restart(nodes: Any, sut: Any, peer: Any) -> None:
    sut.restart()
    sut.run(f"ip route replace default via {nodes.address('nodes', 2)}")
    assert not answered(peer, nodes.address("nodes", 11))
