"""What the theory of invariant self-supervised learning asks of a recipe, and experiments that test the theory."""
