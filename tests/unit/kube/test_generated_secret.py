# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Generated values: their rules, and what is refused."""

from __future__ import annotations

import string
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _generated_secret as generated
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError


def wanted(**keys: Any) -> generated.Wanted:
    return generated.Wanted.read({"name": "s", "namespaces": ["a", "b", "a"], "keys": keys, "labels": {}})


def test_a_password_has_one_of_each_class() -> None:
    for _ in range(200):
        value = generated.generate({"length": 8})
        assert len(value) == 8 and value.isalnum()
        assert set(value) & set(string.ascii_lowercase)
        assert set(value) & set(string.ascii_uppercase)
        assert set(value) & set(string.digits)


@pytest.mark.parametrize(
    ("rule", "length"),
    [({"format": "hex"}, 64), ({"format": "hex", "length": 9}, 9), ({"format": "base64"}, 44), ({}, 32)],
)
def test_lengths(rule: dict[str, Any], length: int) -> None:
    assert len(generated.generate(rule)) == length
    assert generated.generate(rule) != generated.generate(rule)


def test_an_alphabet_is_kept_to() -> None:
    assert set(generated.generate({"alphabet": "abcdefghij-_", "length": 500})) == set("abcdefghij-_")


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ({"format": "rot13"}, "unknown"),
        ({"format": "fixed"}, "needs `value`"),
        ({"format": "htpasswd", "user": "u", "of": "missing"}, "another key"),
        ({"length": 4}, "guessed"),
        ({"alphabet": "ab"}, "fewer than 10"),
    ],
)
def test_rules_that_cannot_be_followed_are_refused(rule: dict[str, Any], word: str) -> None:
    with pytest.raises(PlatformError, match=word):
        wanted(key=rule)


def test_namespaces_count_once_and_are_needed() -> None:
    assert wanted(key=None).namespaces == ("a", "b")
    with pytest.raises(PlatformError, match="names no namespace"):
        generated.Wanted.read({"name": "s", "namespaces": [], "keys": {}, "labels": {}})
