"""`python -m lossd` is `lossd`."""

from __future__ import annotations

import sys

from lossd.cli import main

sys.exit(main())
