"""``python -m lipsplines``."""

import sys

if __name__ == "__main__":
    try:
        from lipsplines.cli import main

        sys.exit(main())
    except KeyboardInterrupt:  # before anything was begun
        sys.exit(130)
