# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""`python -m lab.agent --config FILE`"""

from __future__ import annotations

import sys

from lab.agent.main import main

sys.exit(main())
