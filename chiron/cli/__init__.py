"""The `chiron` command."""


def main() -> int:
    """Entry point of the `chiron` script."""
    # Imported late: `import chiron.cli` alone should cost nothing.
    from chiron.cli.application import main as run

    return run()
