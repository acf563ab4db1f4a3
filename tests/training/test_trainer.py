"""The loop: what it measures, and when and how it ends."""
