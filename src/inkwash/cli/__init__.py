"""The command line: one verb a file, each the thin face of one public function.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

from inkwash.cli.app import main

__all__ = ["main"]
