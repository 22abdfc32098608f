"""Text from audio."""
