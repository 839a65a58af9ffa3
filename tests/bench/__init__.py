"""The measurements: what they hold to be true after a run is found when it is not."""
