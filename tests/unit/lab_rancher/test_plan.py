# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Rolls and upgrades: how many come and go at once."""

from __future__ import annotations

import pytest

from lab.rancher.plan import Member, concurrency, pool_steps, share, upgrades


def members(*words: str) -> list[Member]:
    """`a:old`, with `!` for not ready, `-` for deleting, `*` for marked."""
    made = []
    for number, word in enumerate(words):
        name, _, template = word.rstrip("!-*").partition(":")
        flags = word[len(word.rstrip("!-*")) :]
        made.append(
            Member(name, template, f"{number:03}", ready="!" not in flags, deleting="-" in flags, marked="*" in flags)
        )
    return made


@pytest.mark.parametrize(
    ("now", "quantity", "surge", "unavailable", "create", "delete"),
    [
        ([], 3, 1, 0, 3, []),
        (["a:new"], 3, 1, 0, 2, []),
        (["a:new", "b:new", "c:new"], 2, 1, 0, 0, ["a"]),
        (["a:new", "b:new*", "c:new"], 2, 1, 0, 0, ["b"]),
        (["a:new", "b:new!", "c:new"], 2, 1, 0, 0, ["b"]),
        (["a:new"], 0, 1, 0, 0, ["a"]),
        # a roll: one more first, one old away when it is ready
        (["a:old", "b:old"], 2, 1, 0, 1, []),
        (["a:old", "b:old", "c:new!"], 2, 1, 0, 0, []),
        (["a:old", "b:old", "c:new"], 2, 1, 0, 0, ["a"]),
        (["a:old-", "b:old", "c:new"], 2, 1, 0, 1, []),
        (["a:old", "b:old", "c:old", "d:old"], 4, 0, 1, 0, ["a"]),
        (["a:old", "b:old", "c:old", "d:old"], 4, "50%", 0, 2, []),
        (["a:old!", "b:old"], 2, 1, 0, 1, ["a"]),
        # neither surge nor unavailable would never end
        (["a:old"], 1, 0, 0, 1, []),
        (["a:old", "b:old"], 2, None, None, 1, []),
    ],
)
def test_pool_steps(
    now: list[str], quantity: int, surge: int | str | None, unavailable: int, create: int, delete: list[str]
) -> None:
    steps = pool_steps(members(*now), "new", quantity, surge, unavailable)
    assert (steps.create, steps.delete) == (create, delete)


def test_a_roll_ends_and_never_has_too_few_or_too_many() -> None:
    now = members("a:old", "b:old", "c:old")
    for number in range(20):
        steps = pool_steps(now, "new", 3, "1", "0")
        now = [member for member in now if member.name not in steps.delete]
        now = [Member(one.name, one.template, one.created, ready=True) for one in now]
        now += [Member(f"n{number}{one}", "new", f"1{number:02}") for one in range(steps.create)]
        assert sum(member.ready for member in now) >= 3 or any(not member.ready for member in now)
        assert len(now) <= 4
    assert {member.template for member in now} == {"new"} and len(now) == 3


@pytest.mark.parametrize(
    ("value", "total", "expected"), [(None, 4, 1), ("", 4, 1), ("0", 4, 4), ("50%", 4, 2), ("1%", 4, 1)]
)
def test_concurrency(value: str | None, total: int, expected: int) -> None:
    assert concurrency(value, total) == expected


def test_share_of_a_pool() -> None:
    assert share("25%", 3, 1, up=True) == 1
    assert share("25%", 3, 1, up=False) == 0
    assert share("2", 3, 1, up=True) == 2


def test_upgrades_wait_for_what_is_not_ready() -> None:
    three = [Member(name, "", name, ready=True, version="v1") for name in "abc"]
    assert upgrades(three, "v2", "1") == ["a"]
    assert upgrades(three, "v2", "2") == ["a", "b"]
    assert upgrades(three, "v1", "1") == []
    busy = [Member("a", "", "a", ready=True, version="v1", upgrading=True), *three[1:]]
    assert upgrades(busy, "v2", "1") == []
    broken = [Member("a", "", "a", ready=False, version="v1"), *three[1:]]
    assert upgrades(broken, "v2", "1") == []
