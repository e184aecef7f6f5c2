"""How the images of the source shapes are drawn, and what is noted of each."""
