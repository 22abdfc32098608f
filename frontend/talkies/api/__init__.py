"""HTTP and MCP: requests in, answers out."""
