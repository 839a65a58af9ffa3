"""The tests of the room receipts."""
