# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-test calls get-pip.py, made of the pip that every Python carries: nothing is downloaded."""

from __future__ import annotations

import subprocess
import sys

subprocess.check_call(
    [sys.executable, "-m", "ensurepip", "--upgrade", "--default-pip"],
    stdout=subprocess.DEVNULL,
)
packages = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
