"""One training step, forward, loss, backward and update, and the epochs made of it. Begin with `record`."""
