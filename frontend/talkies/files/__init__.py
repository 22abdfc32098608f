"""The user's files: staged, and fetched from URLs."""
