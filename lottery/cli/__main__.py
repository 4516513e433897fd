"""`python -m lottery.cli` is `lottery`."""

import sys

from lottery.cli import main

sys.exit(main())
