# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The real ansible-playbook, as the platform's tests have it, and what node templates need beyond Ansible's filters."""

from __future__ import annotations

import sys

import pytest
from ansible_collections.harvester_rke2.platform.plugins import filter as filters
from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import play

__all__ = ["play"]


@pytest.fixture(autouse=True)
def collection_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates find the collection's filters, though Python's importer found the collection and not Ansible's."""
    collection = sys.modules["ansible_collections.harvester_rke2.platform"]
    monkeypatch.setattr(collection, "_collection_meta", {}, raising=False)
    monkeypatch.setattr(filters, "__file__", f"{next(iter(filters.__path__))}/__init__.py")
