"""Trouble at random moments under load: what was answered 200 is there afterwards, once, and the books balance."""
