"""The command line, with an accident in one process: `victim.py RANK ACCIDENT train ...`.

ACCIDENT is `kill`, `hang` or `full-disk` at the fifth step, or `OLD=>NEW`, a word that this process is told otherwise.
"""

import errno
import os
import signal
import sys
import time

from inkwash.cli import main
from inkwash.errors import Failed
from inkwash.training import checkpoint, loop

rank, accident, *words = sys.argv[1:]
whole = loop._Training._step


def step(self: loop._Training, number: int, *rest: object) -> None:
    whole(self, number, *rest)  # type: ignore[arg-type]
    if number == 4 and accident == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 4 and accident == "hang":
        time.sleep(600)


def save(*_: object, **__: object) -> None:
    raise Failed(f"cannot write the checkpoint: {os.strerror(errno.ENOSPC)}")


if os.environ["RANK"] == rank:
    if accident in ("kill", "hang"):
        loop._Training._step = step  # type: ignore[method-assign, assignment]
    elif accident == "full-disk":
        checkpoint.save = save  # type: ignore[assignment]
    else:
        old, new = accident.split("=>")
        words = [new if word == old else word for word in words]
sys.exit(main(words))
