# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Which machines a pool gains and loses, and which nodes may be upgraded now: pure decisions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Member:
    """A machine of a pool, as far as decisions need it."""

    name: str
    template: str
    created: str = ""
    ready: bool = False
    deleting: bool = False
    marked: bool = False  # for deletion first, by the autoscaler
    version: str = ""
    upgrading: bool = False


@dataclass(frozen=True)
class Steps:
    create: int = 0
    delete: list[str] = field(default_factory=list)


def share(value: int | str | None, total: int, default: int, up: bool) -> int:
    """A number, or a percentage of the pool's size."""
    if value is None or value == "":
        return default
    text = str(value)
    if text.endswith("%"):
        part = float(text[:-1]) * total / 100
        return math.ceil(part) if up else math.floor(part)
    return int(text)


def pool_steps(
    members: Sequence[Member],
    template: str,
    quantity: int,
    surge: int | str | None = None,
    unavailable: int | str | None = None,
) -> Steps:
    """One step of a pool towards its size and template, as a MachineDeployment goes."""
    alive = [member for member in members if not member.deleting]
    new = [member for member in alive if member.template == template]
    old = [member for member in alive if member.template != template]
    if not old:
        if len(new) < quantity:
            return Steps(create=quantity - len(new))
        return Steps(delete=[member.name for member in _first_to_go(new)[: len(new) - quantity]])
    extra = share(surge, quantity, 1, up=True)
    missing = share(unavailable, quantity, 0, up=False)
    if extra == 0 and missing == 0:
        extra = 1
    create = max(0, min(quantity - len(new), quantity + extra - len(alive)))
    may_go = sum(member.ready for member in alive) - (quantity - missing)
    # what does not work anyway goes first, and costs nothing
    broken = [member.name for member in _first_to_go(old) if not member.ready]
    working = [member.name for member in _first_to_go(old) if member.ready]
    too_many_new = max(0, len(new) - quantity)
    surplus = [member.name for member in _first_to_go(new)[:too_many_new]]
    return Steps(create, [*broken, *working[: max(0, may_go)], *surplus])


def _first_to_go(members: Sequence[Member]) -> list[Member]:
    return sorted(members, key=lambda member: (not member.marked, member.ready, member.created, member.name))


def concurrency(value: str | None, total: int) -> int:
    """upgradeStrategy's numbers: nothing is one, zero is all at once."""
    if value in (None, ""):
        return 1
    number = share(value, total, 1, up=False)
    return total if str(value) == "0" else max(1, number)


def upgrades(members: Sequence[Member], version: str, allowed: str | None, unavailable_elsewhere: int = 0) -> list[str]:
    """The nodes whose upgrade may begin now."""
    busy = sum(member.upgrading or not member.ready for member in members) + unavailable_elsewhere
    room = concurrency(allowed, len(members)) - busy
    waiting = [
        member.name
        for member in sorted(members, key=lambda member: (member.created, member.name))
        if member.ready and not member.deleting and not member.upgrading and member.version != version
    ]
    return waiting[: max(0, room)]
