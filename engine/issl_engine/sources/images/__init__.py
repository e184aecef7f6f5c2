"""What is done with the images of any source: checked, opened, digested, counted."""
