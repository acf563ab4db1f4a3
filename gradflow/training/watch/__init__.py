"""Advice while training goes wrong: losses that explode, stall or become NaN, and values that cannot improve."""
