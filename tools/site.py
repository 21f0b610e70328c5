"""MkDocs's hook for `make docs`: pages that are made of the code, and the files outside of docs/ that pages link to."""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def _place(path: Path) -> str:
    """Return where a file of the repository is in the site."""
    return path.relative_to(DOCS).as_posix() if path.is_relative_to(DOCS) else f"repository/{path.relative_to(ROOT)}"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages in build/reference, CHANGELOG and CONTRIBUTING, and whatever outside of docs/ is linked to."""
    for page in sorted((ROOT / "build" / "reference").glob("*.md")):
        files.append(File.generated(config, f"reference/{page.name}", abs_src_path=str(page)))
    todo = [*DOCS.glob("*.md"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
    for path in todo:  # which grows
        if files.get_file_from_path(_place(path)) is None:
            files.append(File.generated(config, _place(path), abs_src_path=str(path)))
        if path.suffix == ".md":
            linked = {(path.parent / target).resolve() for target in LINK.findall(path.read_text(encoding="utf-8"))}
            todo += sorted(one for one in linked if one.is_file() and one not in todo and not one.is_relative_to(DOCS))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Let the links of pages lead to where their files are in the site."""
    source = Path(str(page.file.abs_src_path))

    def moved(link: re.Match[str]) -> str:
        target = (source.parent / link[1]).resolve()
        if not target.is_file():
            return link[1]  # MkDocs names it as dead
        return Path(os.path.relpath(_place(target), Path(page.file.src_uri).parent)).as_posix()

    return LINK.sub(moved, markdown)
