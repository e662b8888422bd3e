# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The parts table and where a part's programs are taken from."""

from __future__ import annotations

import hashlib
import os
import platform
import tarfile
from pathlib import Path

import pytest

from lab import parts
from lab.settings import LabError


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LAB_PARTS_DIR", raising=False)
    return tmp_path


def test_every_program_of_the_lab_is_in_the_table() -> None:
    programs = {program for part in parts.table().values() for program in part.programs}
    assert programs == {
        "alertmanager",
        "amtool",
        "bao",
        "cert-manager-controllers",
        "coredns",
        "etcd",
        "helm",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-proxy",
        "kube-scheduler",
        "kube-state-metrics",
        "kubectl",
        "kwok",
        "node_exporter",
        "prometheus",
        "promtool",
        "traefik",
    }


def test_every_part_is_pinned() -> None:
    for part in parts.table().values():
        assert part.version.count(".") == 2
        if "go" in part.recipe:
            assert (part.folder / "go.sum").is_file()
            assert part.version in (part.folder / "go.mod").read_text()
        else:
            assert all(digest.startswith("sha256:") for digest in part.recipe["pypi"]["hashes"])
        for download in part.recipe.get("download", {}).values():
            assert len(download.get("sha256", "")) == 64 or len(download["sha512"]) == 128
            assert part.version in download["url"] and set(download["members"]) == set(part.programs)


def test_a_part_is_found_by_the_name_of_its_program() -> None:
    table = parts.table()
    assert [part.name for part in parts.chosen(["kube-proxy", "kubernetes", "bao"], table)] == ["kubernetes", "openbao"]
    assert len(parts.chosen([], table)) == len(table)


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"'kubelet': there is none. Known: .*kube-apiserver"):
        parts.chosen(["kubelet"], parts.table())


def test_the_digest_follows_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SOURCES", tmp_path)
    folder = tmp_path / "parts" / "x"
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text("module x")
    part = parts.Part("x", "1.0.0", {"go": {"folder": "x", "packages": {"x": "."}}})
    first = part.digest
    (folder / "README").write_text("no part of the recipe")
    assert part.digest == first
    (folder / "go.mod").write_text("module y")
    assert part.digest != first
    assert parts.Part("x", "1.0.0", {"go": {"folder": "x", "packages": {"x": ".", "y": "."}}}).digest != first


def test_the_users_folder_comes_before_the_cache(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = parts.table()["etcd"]
    assert parts.find(part) is None
    part.kept.mkdir(parents=True)
    (part.kept / "etcd").write_text("cached")
    assert parts.find(part) == {"etcd": part.kept / "etcd"}
    own = empty_cache / "own"
    own.mkdir()
    (own / "etcd").write_text("mine")
    monkeypatch.setenv("LAB_PARTS_DIR", str(own))
    assert parts.find(part) == {"etcd": own / "etcd"}


def released(folder: Path, checksum: str | None = None) -> parts.Part:
    """A part whose release lies in a folder."""
    archive = folder / "release.tar.gz"
    (folder / "x").write_text("program")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "x", "bin/x")
    digest = checksum or hashlib.sha256(archive.read_bytes()).hexdigest()
    source = {"url": archive.as_uri(), "sha256": digest, "members": {"x": "bin/x"}}
    recipe = {"download": {platform.machine(): source}, "go": {"folder": "x", "packages": {"x": "."}}}
    return parts.Part("x", "1.0.0", recipe)


def test_a_pinned_release_is_downloaded(empty_cache: Path) -> None:
    said: list[str] = []
    part = released(empty_cache)
    found = parts.get(part, said.append)
    assert found["x"].read_text() == "program" and os.access(found["x"], os.X_OK)
    assert "downloaded" in said[-1]
    assert parts.get(part, said.append) == found and ": ready" in said[-1]


def test_a_release_with_another_checksum_is_refused(empty_cache: Path) -> None:
    with pytest.raises(LabError, match="sha256 differs"):
        parts.get(released(empty_cache, "0" * 64), lambda line: None)
    assert not list((empty_cache / "cache" / "harvester_rke2" / "parts").glob(".x-*"))


def test_without_a_network_the_next_source_is_taken(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = released(empty_cache)
    (empty_cache / "release.tar.gz").unlink()
    monkeypatch.setenv("PATH", "")
    said: list[str] = []
    with pytest.raises(LabError, match="no Go compiler"):
        parts.get(part, said.append)
    assert "no release from upstream" in said[0]


def test_without_a_compiler_the_mend_is_said(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LabError, match=r"no Go compiler.*LAB_PARTS_DIR"):
        parts.get(parts.table()["etcd"], lambda line: None)


def test_missing_system_programs_are_one_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "missing_system", lambda: ["bubblewrap", "nftables"])
    with pytest.raises(LabError, match=r"apt-get install -y --no-install-recommends bubblewrap nftables"):
        parts.check_system()
