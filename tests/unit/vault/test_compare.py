# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Comparing by meaning: what Vault gives back in other forms is the same."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_compare import (
    differing,
    hours,
    same,
    seconds,
    shown,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("720h", 2592000),
        ("24h0m0s", 86400),
        ("1h30m", 5400),
        ("30d", 2592000),
        (600, 600),
        ("600", 600),
        ("0", 0),
        ("", None),
        ("h", None),
        ("1 hour", None),
        (True, None),
        (None, None),
    ],
)
def test_durations(value: Any, expected: int | None) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize(
    ("wanted", "current"),
    [
        ("720h", 2592000),
        (["b", "a"], ["a", "b"]),
        ("a, b", ["b", "a"]),
        (["a"], "a"),
        ([], None),
        ("", None),
        (None, "anything"),
        (True, "true"),
        (False, False),
        (2048, "2048"),
        ("text\n", "text"),
        ({"version": "2"}, {"version": 2, "more": 1}),
        ([{"a": 1}], [{"a": 1, "b": 2}]),
    ],
)
def test_the_same(wanted: Any, current: Any) -> None:
    assert same(wanted, current)


@pytest.mark.parametrize(
    ("wanted", "current"),
    [
        ("720h", 3600),
        (["a"], ["a", "b"]),
        (["a"], None),
        (True, None),
        (False, True),
        ("x", None),
        (0, None),
        ({"version": "2"}, {}),
        ({"version": "2"}, None),
        ([{"a": 1}], []),
        ("10", "1"),
    ],
)
def test_not_the_same(wanted: Any, current: Any) -> None:
    assert not same(wanted, current)


def test_only_wanted_fields_count_and_secrets_are_masked() -> None:
    assert differing({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b"]
    assert shown({"a": 1, "secret": "x"}, ["a", "secret", "none"], ["secret"]) == {"a": 1, "secret": "********"}


def test_an_option_that_is_no_number_of_hours_is_told() -> None:
    assert hours("87600h", "ttl") == 87600
    with pytest.raises(PlatformError, match="Reading the option ttl: '90m' is not a number of hours"):
        hours("90m", "ttl")
