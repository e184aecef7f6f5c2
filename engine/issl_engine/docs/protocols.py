"""The table of published protocols, with the source of their settings and what differs here."""

from issl_engine.docs.markdown import code, plain, table
from issl_engine.probing.protocols import PROTOCOLS, Protocol


def protocols() -> str:
    """One line a protocol."""
    rows = [
        [code(name), plain(one.what), _settings(one), plain(one.test_images), plain(one.source), plain(one.differs)]
        for name, one in PROTOCOLS.items()
    ]
    return "\n".join(table(["protocol", "what it is", "keys", "test images", "source", "the source differs"], rows))


def _settings(protocol: Protocol) -> str:
    keys = {key: value for key, value in protocol.settings.items() if key not in ("area", "ratio", "flip")}
    network = {} if protocol.network is None else {"evaluation.network": protocol.network}
    return ", ".join(f"{key} {_shown(value)}" for key, value in (keys | network).items())


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
