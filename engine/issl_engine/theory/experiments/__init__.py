"""The experiments: one file each, with a Config whose ``name`` is what a file's ``experiment`` names."""
