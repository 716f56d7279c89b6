"""`python -m lossd_server`: the same as `lossd serve`."""

import sys

from lossd_server.serve import main

sys.exit(main(sys.argv[1:]))
