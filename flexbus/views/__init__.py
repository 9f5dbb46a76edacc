"""The folds: what a journal means. One module per market function, all pure."""
