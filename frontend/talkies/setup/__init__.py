"""What must be on the machine: environments and weights."""
