# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The chart directory of a lab: the stand-ins of lab/charts, each with the schemas that its real chart brings.

A stand-in that brings CRDs names their API groups in `schemas.txt`; they are written to its folder `schemas/`.
"""

from __future__ import annotations

import shutil

from lab import schemas
from lab.settings import SOURCES, Lab

CHARTS = SOURCES / "charts"


def prepare(lab: Lab) -> None:
    target = lab.path("charts")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for chart in sorted(CHARTS.glob("*/Chart.yaml")):
        folder = target / chart.parent.name
        shutil.copytree(chart.parent, folder)
        groups = folder / "schemas.txt"
        if groups.exists():
            schemas.write(groups.read_text().split(), folder / "schemas")
