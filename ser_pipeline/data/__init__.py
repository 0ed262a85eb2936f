"""Turn stores into batches on the device."""
