"""Looking at an installation from outside, one check after another: what is wrong, and what to do."""
