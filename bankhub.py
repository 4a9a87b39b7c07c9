"""The front door: command line and composition root. It knows every package; no package knows it."""

from __future__ import annotations

import sys

print("the verbs are being built:", sys.argv[1:])
