"""Pictures come from the repository, and say what is so."""

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.documents import DOCUMENTS, ROOT, links

PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_stands_alone_and_can_be_read_aloud(picture: Path) -> None:
    root = ElementTree.fromstring(picture.read_bytes())  # noqa: S314  our own file
    assert root.find("{http://www.w3.org/2000/svg}title") is not None
    assert not re.search(r"href|url\((?!#)|<script|@import", picture.read_text())


def test_every_picture_is_shown_and_none_comes_from_elsewhere() -> None:
    shown = {link.text for link in links(Path("README.md")) if link.text.endswith(".svg")}
    assert shown == {str(picture.relative_to(ROOT)) for picture in PICTURES}
    for document in DOCUMENTS:
        text = (ROOT / document).read_text()
        assert not re.search(r"!\[[^]]*\]\(https?:|<img[^>]+https?:", text), document


def test_badges_say_what_the_project_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.13"
    assert "3.11 | 3.12" in (ROOT / "docs" / "pictures" / "badge-python.svg").read_text()
    assert project["license"] in (ROOT / "docs" / "pictures" / "badge-license.svg").read_text()
    assert "Never run on SGX hardware" in (ROOT / "docs" / "occlum.md").read_text()
