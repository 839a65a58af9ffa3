"""A simulated platform: honest HTTP with scripted trouble."""
