"""Every document of the repository, read as Markdown."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for folder in ("*.md", "docs/**/*.md", "builders/**/*.md", ".github/**/*.md", "tests/**/*.md")
    for path in ROOT.glob(folder)
)


@dataclass(frozen=True)
class Passage:
    """A piece of a document."""

    document: Path
    line: int
    text: str
    language: str = ""

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@cache
def tokens(document: Path) -> list[Token]:
    """A document's blocks, in order."""
    return MarkdownIt("commonmark").enable("table").parse((ROOT / document).read_text())


def blocks(*languages: str) -> Iterator[Passage]:
    """The fenced code blocks of these languages, of all documents."""
    for document in DOCUMENTS:
        for token in tokens(document):
            if token.type == "fence" and token.info.strip() in languages:
                yield Passage(document, _line(token) + 1, token.content, token.info.strip())


def inline_code(document: Path) -> Iterator[Passage]:
    """What stands between backticks in a document's text."""
    return _inline(document, "code_inline")


def links(document: Path) -> Iterator[Passage]:
    """Where a document's links and pictures lead."""
    for token, child in _children(document):
        target = child.attrGet("href" if child.type == "link_open" else "src")
        if child.type in {"link_open", "image"} and isinstance(target, str):
            yield Passage(document, _line(token), target)


def anchors(document: Path) -> set[str]:
    """The names that a document's headings have in links, as GitHub makes them."""
    blocks_of = tokens(document)
    titles = [after.content for token, after in pairwise(blocks_of) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _inline(document: Path, kind: str) -> Iterator[Passage]:
    for token, child in _children(document):
        if child.type == kind:
            yield Passage(document, _line(token), child.content)


def _children(document: Path) -> Iterator[tuple[Token, Token]]:
    for token in tokens(document):
        for child in token.children or ():
            yield token, child


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 1
