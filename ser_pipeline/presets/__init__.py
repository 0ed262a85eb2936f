"""Settings that differ from the defaults, a TOML file each."""
