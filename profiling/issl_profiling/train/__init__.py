"""Times whole training, its parts, and the trainers of others."""
