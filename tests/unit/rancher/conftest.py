# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""A fake Rancher for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils import _kube_client
from ansible_collections.harvester_rke2.platform.tests.unit.rancher.fake import Rancher


@pytest.fixture
def rancher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rancher]:
    monkeypatch.setattr(_kube_client, "_DELAYS", (0.01,) * 5)
    made = Rancher()
    yield made
    made.close()
