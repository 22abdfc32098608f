"""Audio from text."""
