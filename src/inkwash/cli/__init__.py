"""The command line: one verb a file, each the thin face of one public function.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted, 141 when nobody reads the output any more.
"""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from inkwash.cli.app import app
from inkwash.cli.failure import explain


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, `sys.argv[1:]` by default, and return its exit code; never raises for what a user does."""
    with warnings.catch_warnings():
        warnings.showwarning = _one_line  # type: ignore[assignment]
        if not os.environ.get("INKWASH_DEBUG"):
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module=r"inkwash\b")
        try:
            tokens = sys.argv[1:] if argv is None else list(argv)
            app(tokens, exit_on_error=False, print_error=False, verbose=False, result_action="return_none")
            sys.stdout.flush()
        except BrokenPipeError:
            # The interpreter flushes standard output once more at exit; give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141
        except (Exception, KeyboardInterrupt) as error:
            code, line = explain(error)
            if os.environ.get("INKWASH_DEBUG"):
                traceback.print_exc()
            print(f"inkwash: {line}", file=sys.stderr)
            return code
    return 0


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"inkwash: note: {' '.join(str(message).split())}", file=sys.stderr)
