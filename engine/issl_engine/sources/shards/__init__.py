"""Sources with many images in a file: which files, what each holds, and the image set made of it."""
