"""Make docs/ledger/schema.json, the JSON schema of a ledger, from its model: `python tools/ledger_schema.py`."""

import json
from pathlib import Path

from trackdl.ledger.model import Ledger

FILE = Path(__file__).resolve().parents[1] / "docs" / "ledger" / "schema.json"


def render() -> str:
    """Return the schema's text."""
    return json.dumps(Ledger.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(render(), encoding="utf-8")
