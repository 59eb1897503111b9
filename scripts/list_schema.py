"""Write docs/list.schema.json, the JSON schema of what `inkwash list --json` prints."""

import json
from pathlib import Path

from inkwash.api.reading_list import Listing
from inkwash.atomic import write_text

OUT = Path(__file__).parents[1] / "docs" / "list.schema.json"

if __name__ == "__main__":
    write_text(OUT, json.dumps(Listing.model_json_schema(mode="serialization"), indent=2, ensure_ascii=False) + "\n")
    print(OUT)
