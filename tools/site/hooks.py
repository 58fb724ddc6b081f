"""What mkdocs asks while it builds: the further pages, and links that hold within the site."""

from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools.site.links import ROOT_PAGES, relinked
from tools.site.tables import pages

ROOT = Path(__file__).resolve().parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root and those that are made from the code."""
    made = {new: relinked((ROOT / old).read_text(encoding="utf-8"), "") for old, new in ROOT_PAGES.items()}
    for path, text in (made | pages()).items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """Links of the pages in docs/; the others are made with theirs."""
    return markdown if page.file.generated_by else relinked(markdown, "docs")
