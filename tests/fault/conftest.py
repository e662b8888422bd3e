# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Two files at a time, each worker on the lab that `make fault` has started for it."""

from __future__ import annotations

import os

import pytest

# Before any test is collected: a file may look at its lab when it is read.
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and (name := os.environ.get("LAB_NAME")):
    os.environ["LAB_NAME"] = f"{name.rpartition('-')[0]}-{worker}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # The longest first (--no-loadscope-reorder keeps the order): begun last, it would leave the other worker with
    # nothing to do for half an hour.
    items.sort(key=lambda item: item.path.stem != "test_site_kills")
