# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""What an API server refused of a bundle, and whose field it was (private to this collection)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ._bundle_order import Item
from ._errors import PlatformError
from ._kube_client import ApiError

_MANAGER_NAME = re.compile(r'conflict with "([^"]+)"')


class Refused(PlatformError):
    """The API server does not take the object as it is."""


def conflicts_of(exc: ApiError) -> list[tuple[str, str]]:
    """The (manager, field) pairs of a server-side apply conflict."""
    found = []
    for cause in exc.causes:
        if cause.get("reason") == "FieldManagerConflict":
            match = _MANAGER_NAME.search(str(cause.get("message", "")))
            found.append((match[1] if match else "unknown", str(cause.get("field", ""))))
    return found


def conflict_refusal(item: Item, refused: Sequence[tuple[str, str]]) -> Refused:
    what = ", ".join(f"{text} belongs to the manager '{manager}'" for manager, text in refused)
    return Refused(
        f"Applying {item.title} of {item.source}",
        what,
        "Leave the field out of the template, or list it under `left_to` with this manager.",
        refused={
            "source": item.source,
            "object": item.title,
            "fields": [text for _manager, text in refused],
            "managers": sorted({manager for manager, _text in refused}),
        },
    )
