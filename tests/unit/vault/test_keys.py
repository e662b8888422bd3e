# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""What a stored initialisation must look like."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_keys import InitKeys

RAW = [bytes([number]) * 33 for number in range(1, 6)]


def document(**more: Any) -> dict[str, Any]:
    return {
        "keys": [key.hex() for key in RAW],
        "keys_base64": [base64.b64encode(key).decode() for key in RAW],
        "root_token": "s.root-token",
        "secret_threshold": 3,
        **more,
    }


def parse(content: Any) -> InitKeys:
    return InitKeys.from_json(content if isinstance(content, bytes) else json.dumps(content).encode(), "Reading it")


def test_there_and_back() -> None:
    keys = parse(document())
    assert parse(keys.to_json()).same_as(keys) and keys.threshold == 3 and len(keys.shares) == 5
    assert keys.fingerprint == parse(document(keys=document()["keys"])).fingerprint


def test_no_secret_in_its_repr() -> None:
    keys = parse(document())
    assert keys.root_token not in repr(keys) and not any(share in repr(keys) for share in keys.shares)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        {},
        document(secret_threshold="x"),
        document(secret_threshold=6),
        document(secret_threshold=0),
        document(root_token=""),
        document(keys=None),
        document(keys=list(reversed(document()["keys"]))),
        document(keys_base64=["%"] * 5),
        document(keys=[RAW[0].hex()] * 5, keys_base64=[base64.b64encode(RAW[0]).decode()] * 5),
    ],
)
def test_damage_is_told_without_its_content(content: Any) -> None:
    with pytest.raises(PlatformError) as caught:
        parse(content)
    message = str(caught.value)
    assert "Put back an intact copy" in message
    assert "root-token" not in message and RAW[0].hex() not in message


def test_other_keys_are_other_keys() -> None:
    assert not parse(document()).same_as(parse(document(root_token="s.another")))
