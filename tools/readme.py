"""Put the head of the committed ledger into the README: `python -m tools.readme`, after docs/ledger has changed."""

from pathlib import Path

from trackdl.ledger import check, page

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- the ledger's head: python -m tools.readme -->\n", "<!-- end -->\n"


def with_head(readme: str, ledger: Path) -> str:
    """Return a README whose table between the two marks is the ledger's head."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = page.table(*page.head_table(check.load(ledger)))
    return f"{before}{BEGIN}{table}\n{END}{after}"


if __name__ == "__main__":
    file = ROOT / "README.md"
    file.write_text(
        with_head(file.read_text(encoding="utf-8"), ROOT / "docs" / "ledger" / "ledger.json"), encoding="utf-8"
    )
