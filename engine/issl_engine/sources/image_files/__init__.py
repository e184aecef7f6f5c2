"""Sources with one file per image: the files of each class, and their sizes."""
