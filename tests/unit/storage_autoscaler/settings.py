# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The settings that the tests run with, as the role writes them."""

from __future__ import annotations

from typing import Any

ENVIRONMENT = {"POD_NAME": "p", "POD_NAMESPACE": "storage-autoscaler", "PORT": "0"}


def settings(url: str = "http://prometheus", **more: Any) -> dict[str, Any]:
    """The file's object."""
    return {
        "prometheus_url": url,
        "interval_seconds": 60,
        "daily_gib": 500,
        "dry_run": False,
        "defaults": {"threshold_percent": 80, "step_percent": 20, "step_gib": 5, "cooldown_seconds": 1800},
        "policies": [
            {"namespace": "monitoring", "pvc": "data-*", "maximum_gib": 40},
            {"namespace": "database", "pvc": "*-pg-*", "maximum_gib": 40},
        ],
        **more,
    }
