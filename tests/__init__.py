"""The tests of the receiver."""
