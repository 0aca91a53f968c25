//! Loom models of memring's protocols: see `tests/`.
