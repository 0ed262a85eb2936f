"""Find what is wrong with a corpus: its counts, its audio, its copies, its folds."""
