"""Tests of the room messages, without a database."""
