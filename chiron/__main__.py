"""`python -m chiron`: the `chiron` command."""

import sys

from chiron.cli import main

sys.exit(main())
