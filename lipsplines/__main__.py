"""``python -m lipsplines``."""

import sys

from lipsplines.cli import main

if __name__ == "__main__":
    sys.exit(main())
