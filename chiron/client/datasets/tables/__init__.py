"""Tables as a source: CSV, Excel, Parquet and Arrow files, and frames, all by the same path.

A reader (`text`, `workbook`, `typed`) gives names and batches (`table`). One reading of all rows (`survey`)
decides what the columns are (`roles`, `tasks`, `inputs`, `settling`), and `encoding` makes them numbers. A
later file is taken the same way (`conforming`).
"""
