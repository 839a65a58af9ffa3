"""Real sequences without names: what they keep, what they hide, and that they play."""
