"""Presets, with one TOML file each of the settings that differ from the defaults."""
