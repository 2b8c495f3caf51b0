"""The emulated world: a group, a registry, an instance and its callers, on loopback."""
