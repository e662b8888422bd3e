# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""`python -m tests.bench` prints the benchmark table."""

from __future__ import annotations

from tests.bench.bench import main

main()
