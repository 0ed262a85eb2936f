"""Where the speed figures come from; each file says what it measures."""
