"""The verbs, joined into one program. Their files import nothing heavy, so `--help` is instant."""

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence

from cyclopts import App, Parameter

from inkwash.cli.analyse import analyse
from inkwash.cli.anomaly import anomaly
from inkwash.cli.augment import augment
from inkwash.cli.cite import cite
from inkwash.cli.compare import compare
from inkwash.cli.data import data
from inkwash.cli.demo import demo
from inkwash.cli.distil import distil
from inkwash.cli.doctor import doctor
from inkwash.cli.edit import edit
from inkwash.cli.evaluate import evaluate
from inkwash.cli.export import export
from inkwash.cli.failure import explain
from inkwash.cli.list import list_entries
from inkwash.cli.map import field_map
from inkwash.cli.pareto import pareto
from inkwash.cli.predict import predict
from inkwash.cli.rank import rank, size
from inkwash.cli.reproduce import reproduce
from inkwash.cli.restore import restore
from inkwash.cli.sample import sample
from inkwash.cli.show import show
from inkwash.cli.train import train
from inkwash.cli.tune import tune
from inkwash.errors import WrongUse


def _version() -> str:
    import inkwash

    return f"inkwash {inkwash.__version__}"


def _worth_showing(default: object) -> object:
    if default is False or default == ():
        return None
    return ",".join(map(str, default)) if isinstance(default, tuple) else default


app = App(
    name="inkwash",
    help="""Diffusion models for images, medical ones above all: train them, draw from them, measure them.

    $ inkwash train polyp-ddpm polyps/ --out runs/polyp --minutes 10
    $ inkwash sample runs/polyp -n 16 --out pictures""",
    version=_version,
    help_format="plaintext",
    help_epilogue="Exit codes: 0 done, 1 failed, 2 wrong use. Help on a command: inkwash COMMAND --help",
    default_parameter=Parameter(negative=(), show_default=_worth_showing),
    suppress_keyboard_interrupt=False,
)
VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "data": data,
    "analyse": analyse,
    "train": train,
    "sample": sample,
    "augment": augment,
    "predict": predict,
    "edit": edit,
    "anomaly": anomaly,
    "evaluate": evaluate,
    "compare": compare,
    "restore": restore,
    "tune": tune,
    "distil": distil,
    "export": export,
    "pareto": pareto,
    "list": list_entries,
    "show": show,
    "cite": cite,
    "map": field_map,
    "reproduce": reproduce,
    "doctor": doctor,
}
SHARED = ("train", "sample", "evaluate", "distil", "reproduce")
for place, (name, verb) in enumerate(VERBS.items()):
    app.command(verb, name=name, sort_key=place, help_epilogue="")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, `sys.argv[1:]` by default, and return its exit code; never raises for what a user does.

    Of several processes that were started together the first prints the answer. Each says why it stops.
    """
    who = f"inkwash: process {rank()}: " if rank() else "inkwash: "
    with warnings.catch_warnings(), _answer():
        warnings.showwarning = _one_line  # type: ignore[assignment]
        if not os.environ.get("INKWASH_DEBUG"):
            warnings.simplefilter("ignore")
            warnings.filterwarnings("default", module=r"inkwash\b")
        try:
            tokens = sys.argv[1:] if argv is None else list(argv)
            _check_shared(tokens)
            app(tokens, exit_on_error=False, print_error=False, verbose=False, result_action="return_none")
            sys.stdout.flush()
        except BrokenPipeError:
            # The interpreter flushes standard output once more at exit; give it somewhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (Exception, KeyboardInterrupt) as error:
            code, line = explain(error)
            if os.environ.get("INKWASH_DEBUG"):
                traceback.print_exc()
            print(f"{who}{line}", file=sys.stderr)
            return code
    return 0


def _check_shared(tokens: Sequence[str]) -> None:
    """Raises `WrongUse` where several processes would all do the same."""
    if size() > 1 and tokens and tokens[0] in VERBS and tokens[0] not in SHARED:
        raise WrongUse(
            f"inkwash {tokens[0]} is done by one process, and {size()} were started; {', '.join(SHARED)} are shared"
        )


@contextlib.contextmanager
def _answer() -> Iterator[None]:
    """Standard output is that of the first process."""
    if not rank():
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def _one_line(message: Warning | str, *_: object, **__: object) -> None:
    if not rank():
        print(f"inkwash: note: {' '.join(str(message).split())}", file=sys.stderr)
