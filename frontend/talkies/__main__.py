"""The `talkies` command, and `python -m talkies`."""

from __future__ import annotations

import sys

from talkies import __version__


def main() -> None:
    """Run the command; the version is told without what the others import."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        print(f"talkies {__version__}")
        return
    from talkies.cli.main import app

    app()


if __name__ == "__main__":
    main()
