"""What an owner agrees to, in words."""

from datetime import UTC, datetime

import pytest

from chiron.client.granting import grant_in_words, new_terms
from chiron.wire.contract import Oblivious

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("oblivious", "told"),
    [
        (
            Oblivious.CLAMPED,
            "A host that watches which pages of memory the enclaves use may learn of your rows",
        ),
        (Oblivious.STRICT, "Which pages of memory the enclaves use is the same for any rows of this shape"),
    ],
)
def test_the_grant_says_what_pages_of_memory_tell(oblivious: Oblivious, told: str) -> None:
    lines = grant_in_words(new_terms(NOW), oblivious=oblivious)
    about_pages = [line for line in lines if "pages of memory" in line]
    assert len(about_pages) == 1
    assert about_pages[0].startswith(told)
    assert str(oblivious) in about_pages[0]
