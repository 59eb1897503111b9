"""Values in the words of the command line."""

import json
from typing import Any


def plain(value: Any) -> str:
    """A value as `--set` takes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return ",".join(map(plain, value)) if isinstance(value, (list, tuple)) else str(value)
