"""What comes back: reading, grouping, applying, quarantine."""
