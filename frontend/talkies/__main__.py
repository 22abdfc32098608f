"""`python -m talkies`."""

from talkies.cli import app

app()
