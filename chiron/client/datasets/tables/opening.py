"""Opens a table whatever its file's form, or a frame."""

from pathlib import Path
from typing import Any

from chiron.client.datasets.tables.table import Table
from chiron.client.datasets.tables.text import text_table
from chiron.client.datasets.tables.typed import arrow_table, frame_table, parquet_table
from chiron.client.datasets.tables.workbook import workbook_table
from chiron.client.errors import SourceInvalid
from chiron.client.schemas import Reading

TEXTS = frozenset({".csv", ".tsv", ".tab", ".txt"})
TYPED = {".parquet": parquet_table, ".arrow": arrow_table, ".feather": arrow_table}


def open_table(source: Path | Any, reading: Reading) -> Table:
    """The table in a file, by its ending, or in a frame.

    Raises:
        SourceDoubtful: it can be read in more than one way.
        SourceInvalid: it cannot be read, or an option says how a file of another form is read.
    """
    if not isinstance(source, Path):
        return frame_table(source)
    suffix = source.suffix.lower()
    if suffix in TEXTS:
        return text_table(source, reading)
    if suffix == ".xlsx":
        return workbook_table(source, reading)
    if suffix in TYPED:
        return TYPED[suffix](source)
    raise SourceInvalid(
        f"{source.name} is no table: .csv, .tsv, .parquet, .arrow, .feather and .xlsx can be read"
    )
