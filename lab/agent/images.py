# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The table of images, and the file system each of them gives its containers.

A container's root is an empty tmpfs; what the image has is bound into it. So a program that the real image lacks is
missing here too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.agent.config import Config
from lab.kube import Object

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOST_PROGRAMS = "/.lab/bin"
DEBIAN_PACKAGES = "/usr/lib/python3/dist-packages"
# What a slim Debian has (coreutils, bash, findutils, grep, gzip, mawk, sed, tar, util-linux): no curl, no ps.
DEBIAN = (
    "[ arch awk b2sum base32 base64 basename bash cat chgrp chmod chown chroot cksum cmp comm cp csplit cut dash "
    "date dd df diff diff3 dir dirname dmesg du echo egrep env expand expr factor false fgrep find flock fmt fold "
    "getent getopt grep groups gunzip gzip head hostid hostname iconv id install ionice join kill link ln logger "
    "login logname ls lscpu md5sum mkdir mkfifo mknod mktemp more mount mv nice nl nohup nproc numfmt od paste "
    "pathchk perl pinky pr printenv printf ptx pwd readlink realpath rev rm rmdir run-parts sed seq setpriv setsid "
    "sh sha1sum sha224sum sha256sum sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac "
    "tail tar tee test timeout touch tr true truncate tsort tty umount uname unexpand uniq unlink users uuidgen "
    "vdir wc which who whoami xargs yes zcat zgrep "
)


class ImageError(Exception):
    """The lab cannot give this image's files; the words of the container's waiting state."""


@dataclass(frozen=True)
class Image:
    name: str
    match: str
    program: str
    binds: dict[str, str]
    tools: str = "none"
    files: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    stop_signal: str = "SIGTERM"

    @property
    def uid(self) -> int:
        return int(self.user.split(":")[0])

    @property
    def gid(self) -> int:
        return int(self.user.split(":")[1])


@dataclass
class Root:
    """The read-only part of an image's containers: bubblewrap's arguments, and what its programs need to run here."""

    options: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)


class Images:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.images = read_table(config.images)
        self.roots: dict[str, Root] = {}
        self.lock = threading.Lock()

    def find(self, reference: str) -> Image | None:
        return next((image for image in self.images if re.search(image.match, reference)), None)

    def real(self, pod: Object) -> bool:
        return any(self.find(container["image"]) for container in pod["spec"]["containers"])

    def root(self, image: Image) -> Root:
        """Made once an image."""
        with self.lock:
            if image.name not in self.roots:
                root = Root()
                root.options = list(self._options(image, root.env))
                self.roots[image.name] = root
            return self.roots[image.name]

    def _options(self, image: Image, env: dict[str, str]) -> Iterable[str]:
        folder = self.config.run / "images" / image.name
        shutil.rmtree(folder, ignore_errors=True)
        tools, files = folder / "bin", folder / "files"
        tools.mkdir(parents=True)
        files.mkdir()
        yield from ("--dir", "/etc", "--dir", "/usr", "--dir", "/usr/local")
        yield from system_libraries()
        yield from ("--symlink", "usr/bin", "/bin", "--symlink", "usr/bin", "/sbin", "--symlink", "bin", "/usr/sbin")
        bound = dict(self._binds(image, env))
        if image.tools == "busybox":
            busybox = self._program(image, "busybox")
            bound["/usr/bin/busybox"] = busybox
            applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
            for applet in set(applets.stdout.split()) - {Path(path).name for path in bound}:
                (tools / applet).symlink_to("busybox")
        elif image.tools == "debian":
            yield from ("--ro-bind", "/usr/bin", HOST_PROGRAMS)
            for name in DEBIAN.split():
                target = Path("/usr/bin", name).resolve()
                if target.exists() and target.parent == Path("/usr/bin").resolve():
                    (tools / name).symlink_to(f"{HOST_PROGRAMS}/{target.name}")
        for number, (path, text) in enumerate(image.files.items()):
            own = files / str(number)
            own.write_text(text)
            own.chmod(0o755)
            bound[path] = own
        for path in bound:
            # a file bound into the read-only folder of tools needs a place there
            if Path(path).parent == Path("/usr/bin"):
                (tools / Path(path).name).touch()
        yield from ("--ro-bind", str(tools), "/usr/bin")
        for path, source in sorted(bound.items()):
            yield from ("--ro-bind", str(source), path)
            # third-party packages of this machine are not the image's
            if (Path(source) / "site-packages").is_dir():
                yield from ("--tmpfs", f"{path}/site-packages")
        if "{python}" in image.binds.values() and Path(DEBIAN_PACKAGES).is_dir():
            yield from ("--tmpfs", DEBIAN_PACKAGES)
        for path, points_to in image.links.items():
            yield from ("--symlink", points_to, path)

    def _program(self, image: Image, name: str) -> Path:
        found = self.config.program(name)
        if found is None:
            raise ImageError(f'no program "{name}" for the image "{image.name}" in {self.config.bin} or in PATH')
        return found

    def _binds(self, image: Image, env: dict[str, str]) -> Iterable[tuple[str, Path]]:
        for path, source in image.binds.items():
            if source == "{python}":
                yield from self._python(image, path, env)
            elif source.startswith("{agent}/"):
                yield path, Path(__file__).with_name(source.removeprefix("{agent}/"))
            else:
                yield path, self._program(image, source)

    def _python(self, image: Image, prefix: str, env: dict[str, str]) -> Iterable[tuple[str, Path]]:
        """The interpreter and its standard library where the official image has them; no package of this machine."""
        question = (
            "import json,os,sys,sysconfig as s;print(json.dumps({'program':os.path.realpath(sys._base_executable),"
            "'library':s.get_path('stdlib',vars={'installed_base':sys.base_prefix}),'folder':sys.platlibdir,"
            "'name':'python%d.%d'%sys.version_info[:2],'shared':s.get_config_var('Py_ENABLE_SHARED'),"
            "'soname':s.get_config_var('INSTSONAME'),'libdir':s.get_config_var('LIBDIR')}))"
        )
        asked = subprocess.run(
            [str(self.config.python), "-I", "-c", question], capture_output=True, text=True, check=False
        )
        if asked.returncode != 0:
            raise ImageError(
                f'the interpreter {self.config.python} of the image "{image.name}" does not run: {asked.stderr}'
            )
        told: dict[str, Any] = json.loads(asked.stdout)
        yield f"{prefix}/bin/{told['name']}", Path(told["program"])
        for name in ("python3", "python"):
            yield f"{prefix}/bin/{name}", Path(told["program"])
        yield f"{prefix}/{told['folder']}/{told['name']}", Path(told["library"])
        shared = Path(str(told["libdir"]), str(told["soname"]))
        if told["shared"] and shared.exists():
            env["LD_LIBRARY_PATH"] = f"{prefix}/lib"
            yield f"{prefix}/lib/{shared.name}", shared


def system_libraries() -> Iterable[str]:
    """What a dynamically linked program needs, and the certificates and time zones that every image has."""
    for name in ("lib", "lib32", "lib64", "libx32"):
        if os.path.isdir(f"/usr/{name}"):
            yield from ("--ro-bind", f"/usr/{name}", f"/usr/{name}")
        if os.path.islink(f"/{name}"):
            yield from ("--symlink", os.readlink(f"/{name}"), f"/{name}")
        elif os.path.isdir(f"/{name}"):
            yield from ("--ro-bind", f"/{name}", f"/{name}")
    for folder in ("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/share/zoneinfo"):
        if os.path.isdir(folder):
            yield from ("--ro-bind", folder, folder)


def read_table(path: Path) -> list[Image]:
    images = []
    for entry in yaml.safe_load(path.read_text()):
        for key in ("folders", "entrypoint", "command"):
            entry[key] = tuple(entry.get(key, ()))
        images.append(Image(**entry))
    return images
