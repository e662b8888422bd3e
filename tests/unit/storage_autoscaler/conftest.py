# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""An API server and a Prometheus to test against, and the program's folders on the import path."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "service" / "files"))
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "storage_autoscaler" / "files"))

from ansible_collections.harvester_rke2.platform.tests.unit.node_labeler.conftest import self_signed
from ansible_collections.harvester_rke2.platform.tests.unit.storage_autoscaler.fakes import (
    FakePrometheus,
    FakeStorageApi,
)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeStorageApi]:
    """A running API server with an account folder beside it, as a pod has it mounted."""
    certificate, key = self_signed(tmp_path / "server")
    account = tmp_path / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes(certificate.read_bytes())
    with FakeStorageApi(certificate, key, account) as server:
        yield server


@pytest.fixture
def prometheus() -> Iterator[FakePrometheus]:
    """A running Prometheus."""
    with FakePrometheus() as server:
        yield server
