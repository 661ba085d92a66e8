"""The original's command line: ``python -m aup.dlconvert -f jobs.json`` and one command per conversion."""

import sys
from pathlib import Path

# `python -m` puts the working directory first: a user's own converter.py there must not stand in for the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
