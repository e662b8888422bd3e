# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""Commands of `python -m lab`."""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab import check, down, parts, schemas, status, up, upstream
from lab.netns import Namespace
from lab.settings import Lab, LabError

say = functools.partial(print, flush=True)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab", description="The embedded platform.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the lab, or what of it does not run")
    stop = commands.add_parser("down", help="stop the lab; the next start is a fresh cluster")
    stop.add_argument("--purge", action="store_true", help="remove logs too")
    commands.add_parser("status", help="show every part; exit code 1 when something does not run")
    look = commands.add_parser("check", help="whether the platform on the lab keeps what the site promises")
    look.add_argument("--phase", type=int, help="the last phase that has run (otherwise all)")
    look.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    get = commands.add_parser("parts", help="get the programs the lab runs")
    get.add_argument("names", nargs="*", help="parts or programs; all when none is named")
    write = commands.add_parser("schemas", help="write the schemas of API groups as files, for stand-in charts")
    write.add_argument("--groups", required=True, help="comma-separated")
    write.add_argument("-o", "--output", type=Path, required=True)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    try:
        return run(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace) -> int:
    if options.command == "parts":
        for part in parts.chosen(options.names, parts.table()):
            parts.get(part, say)
        return 0
    if options.command == "schemas":
        groups = options.groups.split(",")
        upstream.fetch([group for group in groups if not schemas.files_of(group)], say)
        say(schemas.write(groups, options.output))
        return 0
    lab = Lab.from_environment()
    if options.command == "up":
        up.start(lab, say)
        return 0
    if options.command == "down":
        down.stop(lab, say, options.purge)
        return 0
    if options.command == "check":
        return look(lab, options.phase, options.inside)
    return status.show(lab, say)


def look(lab: Lab, phase: int | None, inside: bool) -> int:
    """The names that the checks use resolve inside the namespace only, so they run there."""
    if inside:
        return check.print_table(check.check(lab.path("kubeconfig"), phase))
    words = ["check", "--inside", *(["--phase", str(phase)] if phase is not None else [])]
    return subprocess.call([*Namespace(lab).enter, sys.executable, "-m", "lab", *words])
