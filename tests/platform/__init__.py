"""Tests of the room platform: its spelling, its words, its codes."""
