"""``python -m issl_engine``: the command line, for launchers that start a module."""

from issl_engine.cli import main

if __name__ == "__main__":
    main(prog_name="issl-engine")
