"""Readers of file formats. They know no source: what they need to know comes as arguments."""
