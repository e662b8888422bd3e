# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""User data is put together to the same bytes, whatever the order of keys; what contradicts itself is refused."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _user_data
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
BASE = {"packages": ["iptables"], "write_files": [{"path": "/a", "content": PEM, "permissions": "0644"}]}


def test_the_order_of_keys_does_not_count() -> None:
    one = _user_data.dump(_user_data.merge([("a", BASE)]))
    other = dict(reversed([(key, value) for key, value in BASE.items()]))
    assert one == _user_data.dump(_user_data.merge([("a", other), ("b", None)]))
    assert one.startswith("#cloud-config\n") and "content: |" in one
    assert yaml.safe_load(one) == BASE


def test_lists_follow_each_other_and_mappings_merge() -> None:
    found = _user_data.merge(
        [
            ("a", BASE),
            ("b", {"packages": ["iptables", "vim"], "ntp": {"enabled": True}}),
            ("c", {"ntp": {"servers": ["x"]}}),
        ]
    )
    assert found["packages"] == ["iptables", "vim"]
    assert found["ntp"] == {"enabled": True, "servers": ["x"]}
    assert BASE["packages"] == ["iptables"]


def test_what_two_say_differently_is_refused() -> None:
    with pytest.raises(PlatformError, match=r"user data of b: ntp\.enabled has been set"):
        _user_data.merge([("a", {"ntp": {"enabled": True}}), ("b", {"ntp": {"enabled": False}})])
    with pytest.raises(PlatformError, match="no mapping"):
        _user_data.merge([("a", ["x"])])


def test_too_much_is_refused() -> None:
    with pytest.raises(PlatformError, match="more than"):
        _user_data.dump({"write_files": [{"path": "/a", "content": "x" * 300_000}]})
