# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""PyYAML by its C parser where there is one (private to this collection)."""

from __future__ import annotations

import traceback
from typing import Any

__all__ = ["DUMPER", "LIBRARY_ERROR", "LOADER", "yaml"]

LIBRARY_ERROR: str | None = None
try:
    import yaml

    LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
except ImportError:
    # Told by the modules with the sentence that users know, instead of a trace.
    LIBRARY_ERROR = traceback.format_exc()
    yaml: Any = None  # type: ignore[no-redef]
    LOADER = DUMPER = None
