"""One module a command; ``issl_engine.cli`` lists them."""
