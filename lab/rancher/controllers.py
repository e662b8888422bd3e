# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, the harvester_rke2.platform authors
"""The controllers of Rancher and Harvester, and Rancher's webhook."""

from __future__ import annotations

import argparse
import logging
import threading
from pathlib import Path

from lab.rancher import settings, webhook
from lab.rancher.faults import Faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the lab's directory")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s", level=logging.INFO)
    files = settings.Files(options.directory)
    faults = Faults(files.faults)
    webhook.start(files, faults)
    threading.Event().wait()


if __name__ == "__main__":
    main()
