"""The remote side's spelling: it ends in this room."""
