"""`python -m gigraph` is the `gigraph` command."""

import sys

from gigraph.cli import main

sys.exit(main())
