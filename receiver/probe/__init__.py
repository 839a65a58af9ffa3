"""Whether the platform can reach us: a synthetic receipt to our own public address, followed to its row."""
