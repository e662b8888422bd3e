# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The real ansible-playbook renders the roles of phase 3, as it does in the tests of the role ``service``."""

from __future__ import annotations

from ansible_collections.harvester_rke2.platform.tests.unit.platform.conftest import play as play
