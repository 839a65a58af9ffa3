"""What the HTTP doors promise: answers, refusals, limits, and how a run ends."""
