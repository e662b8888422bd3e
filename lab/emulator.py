# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""One process for the small stand-ins, each with a user and rights of its own."""

from __future__ import annotations

import argparse
import logging
import threading
from pathlib import Path

from lab import cilium, rke2, storage
from lab.mirror import Controller


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--credentials", type=Path, required=True, help="folder of the kubeconfigs")
    parser.add_argument("--volumes", type=Path, required=True, help="folder of the volumes")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    credentials: Path = options.credentials
    driver = storage.Driver(options.volumes)
    volumes = Controller("storage", credentials / "storage.kubeconfig", storage.PATHS, driver.act)
    driver.wake = volumes.changed.set
    for controller in (
        Controller("rke2", credentials / "rke2.kubeconfig", rke2.PATHS, rke2.HelmController().act),
        Controller("cilium", credentials / "cilium.kubeconfig", cilium.PATHS, cilium.act),
        volumes,
    ):
        controller.start()
    logging.info("started")
    threading.Event().wait()


if __name__ == "__main__":
    main()
