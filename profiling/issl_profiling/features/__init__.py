"""What features on a disk cost: writing them, opening them, and fitting probes from them with little memory."""
