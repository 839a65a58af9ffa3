"""Background duties that keep the house in order."""
