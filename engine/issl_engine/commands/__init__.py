"""One module per command; ``issl_engine.cli`` lists them."""
