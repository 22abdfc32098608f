"""The Model Context Protocol: the same services for agents."""
