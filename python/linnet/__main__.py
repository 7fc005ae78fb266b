"""``python -m linnet`` is the ``linnet`` command."""

import sys

from linnet._cli import main

if __name__ == "__main__":
    sys.exit(main())
