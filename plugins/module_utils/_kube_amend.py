# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""Change a few fields of an object that others change, too (private to this collection)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ._errors import PlatformError
from ._kube_client import MERGE, ApiError, KubeClient

_ATTEMPTS = 6


def amend(
    client: KubeClient,
    path: str,
    read: Callable[[], Mapping[str, Any]],
    change: Callable[[Mapping[str, Any]], dict[str, Any] | None],
    *,
    doing: str,
    query: Mapping[str, str | None],
) -> bool:
    """Merge what ``change`` makes of the object into it; False if that is None, as nothing is to be done.

    A conflict, also one that Rancher tells as HTTP 500, is read and judged anew, never sent again as it was.
    """
    why = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(0.05 * 2**attempt)
        live = read()
        wanted = change(live)
        if wanted is None:
            return False
        body = {**wanted, "metadata": {"resourceVersion": live["metadata"]["resourceVersion"]}}
        try:
            client.request("PATCH", path, body=body, content_type=MERGE, query=query)
        except ApiError as exc:
            if not exc.conflict:
                raise
            why = exc.message
        else:
            return True
    raise PlatformError(doing, f"somebody else changes it all the time ({why})", "Find out who, then run again.")
