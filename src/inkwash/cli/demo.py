"""`inkwash demo`."""

from pathlib import Path

from inkwash.cli.progress import follow


def demo(*, out: Path = Path("runs/demo")) -> None:
    """Draw and measure pictures with the bundled images and model, and write a report of it.

    $ inkwash demo

    Args:
        out: the folder to write; the report is report.html in it.
    """
    from inkwash.api.demo import demonstrating

    follow(demonstrating(out=out))
    print(out / "report.html")
