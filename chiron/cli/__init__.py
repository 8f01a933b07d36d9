"""The `chiron` command: what data owners and operators type.

Each module holds one group of commands. A module imports at its top what its `--help` needs, and its
commands import the rest: `chiron --help` starts at once, whatever is installed.
"""


def main() -> int:
    """Entry point of the `chiron` script."""
    # Imported late: `import chiron.cli` alone should cost nothing.
    from chiron.cli.application import main as run

    return run()
