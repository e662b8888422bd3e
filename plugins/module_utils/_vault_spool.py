# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors

"""A secret file that is on the disk before anything else happens (private to this collection).

Its room is reserved before the secret exists, so that a full disk is found in time and the last step is a rename.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ._errors import PlatformError

_ROOM = 65536


class SecretFile:
    """One file of mode 0600 in a directory of mode 0700: reserve, commit, read, remove."""

    def __init__(self, path: str, what: str) -> None:
        self.path = Path(os.path.abspath(os.path.expanduser(path)))
        self.what = what
        self._part = self.path.with_name(f".{self.path.name}.part")
        self._descriptor = -1

    def __str__(self) -> str:
        return str(self.path)

    def _error(self, doing: str, exc: OSError) -> PlatformError:
        mend = "Make its directory writable for the user who runs the module, with room for a few kilobytes."
        return PlatformError(f"{doing} {self.what} {self.path}", exc.strerror or type(exc).__name__, mend)

    def read(self) -> bytes | None:
        """The committed content. A part that was written whole but not yet renamed is taken too."""
        for path in (self.path, self._part):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise self._error("Reading", exc) from None
            with os.fdopen(descriptor, "rb") as stream:
                status = os.fstat(descriptor)
                if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                    why = "it belongs to another user, or others may read it"
                    raise PlatformError(f"Reading {self.what} {path}", why, "Give it back to its owner with mode 0600.")
                content = stream.read().strip(b"\0")
            if content or path == self.path:
                return content
        return None

    def reserve(self) -> None:
        """Take the room on the disk, so that ``commit`` cannot fail for lack of it."""
        if self._descriptor >= 0:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._part.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self._descriptor = os.open(self._part, flags, 0o600)
            self._write(b"\0" * _ROOM)
            self._sync_directory()
        except OSError as exc:
            self.release()
            raise self._error("Reserving room for", exc) from None

    def commit(self, content: bytes) -> None:
        """Put the content in the reserved room, on the disk, under its name."""
        try:
            self._write(content)
            os.ftruncate(self._descriptor, len(content))
            os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
            os.rename(self._part, self.path)
            self._sync_directory()
        except OSError as exc:
            raise self._error("Writing", exc) from None

    def _write(self, content: bytes) -> None:
        """From the start of the file, whole: a disk that fills up takes a part first and says so at the next try."""
        written = 0
        while written < len(content):
            written += os.pwrite(self._descriptor, content[written:], written)
        os.fsync(self._descriptor)

    def release(self) -> None:
        """Give the room back when nothing was committed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._part.unlink(missing_ok=True)

    def remove(self) -> None:
        try:
            there = [path for path in (self.path, self._part) if os.path.lexists(path)]
            for path in there:
                path.unlink(missing_ok=True)
            if there:
                self._sync_directory()
        except OSError as exc:
            raise self._error("Removing", exc) from None

    def _sync_directory(self) -> None:
        descriptor = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
