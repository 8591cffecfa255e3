"""``python -m atf`` is ``atf``."""

import sys

from atf.cli import main

if __name__ == "__main__":
    sys.exit(main())
