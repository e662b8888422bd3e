# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The spool: on the disk before anything else, whole or not at all, for its owner only."""

from __future__ import annotations

import os
import pathlib
import stat

import pytest
from ansible_collections.harvester_rke2.platform.plugins.module_utils._errors import PlatformError
from ansible_collections.harvester_rke2.platform.plugins.module_utils._vault_spool import SecretFile


def spool(folder: pathlib.Path) -> SecretFile:
    return SecretFile(str(folder / "state" / "vault-init.json"), "the spool file")


def test_reserved_then_committed_then_read_by_another_run_then_removed(tmp_path: pathlib.Path) -> None:
    file = spool(tmp_path)
    assert file.read() is None
    file.reserve()
    part = file.path.with_name(".vault-init.json.part")
    assert part.stat().st_size >= 65536 and stat.S_IMODE(part.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert spool(tmp_path).read() is None
    file.commit(b"secret")
    assert spool(tmp_path).read() == b"secret" and not part.exists()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.release()
    assert file.path.exists()
    spool(tmp_path).remove()
    assert spool(tmp_path).read() is None
    spool(tmp_path).remove()


def test_killed_between_writing_and_renaming(tmp_path: pathlib.Path) -> None:
    file = spool(tmp_path)
    file.reserve()
    os.pwrite(file._descriptor, b"secret", 0)
    assert spool(tmp_path).read() == b"secret"


def test_killed_after_reserving_leaves_nothing_in_the_way(tmp_path: pathlib.Path) -> None:
    spool(tmp_path).reserve()
    again = spool(tmp_path)
    again.reserve()
    again.release()
    assert not list(again.path.parent.iterdir())


def test_what_others_may_read_or_a_link_is_refused(tmp_path: pathlib.Path) -> None:
    file = spool(tmp_path)
    file.reserve()
    file.commit(b"secret")
    file.path.chmod(0o644)
    with pytest.raises(PlatformError, match="others may read it"):
        spool(tmp_path).read()
    file.path.chmod(0o600)
    file.path.rename(tmp_path / "elsewhere")
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlatformError, match="Reading the spool file"):
        spool(tmp_path).read()


def test_no_room_is_told_before_there_is_a_secret(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, content: bytes, offset: int) -> int:
        if offset >= 4096:
            raise OSError(28, "No space left on device")
        return min(len(content), 4096)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(PlatformError, match=r"Reserving room for the spool file .*: No space left on device"):
        spool(tmp_path).reserve()
    assert not list((tmp_path / "state").iterdir())
