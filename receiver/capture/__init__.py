"""Capturing: from what was told of a real message to a sequence that names nobody."""
