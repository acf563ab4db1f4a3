"""The way of the user's data into the step: validated, converted, and fed batch by batch."""
