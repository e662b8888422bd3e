# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""The one sentence that every failure of this collection becomes (private to this collection)."""

from __future__ import annotations

from typing import Any


class PlatformError(Exception):
    """What was being done and to what, why it failed, and what to do about it.

    ``data`` travels into the module's result, so it must never hold a secret.
    """

    def __init__(self, doing: str, why: str, mend: str = "", **data: Any) -> None:
        self.doing = doing
        self.why = why
        self.mend = mend
        self.data = data
        super().__init__(str(self))

    def __str__(self) -> str:
        sentence = f"{self.doing}: {self.why.rstrip('.')}."
        return f"{sentence} {self.mend}" if self.mend else sentence


class Unreachable(PlatformError):
    """Nothing answers at the other end, or what answers cannot be trusted (TLS)."""


class NoConnection(Unreachable):
    """There is no way to the cluster yet, for example because its kubeconfig has not been written."""
