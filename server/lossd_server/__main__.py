"""`python -m lossd_server`: the same as `lossd serve`."""

import sys

from lossd.cli import main

sys.exit(main(["serve", *sys.argv[1:]]))
