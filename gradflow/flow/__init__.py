"""What the gradients do: gradient norms by layer, dead and saturated units."""
