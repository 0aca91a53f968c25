//! What the operations do to memory, byte for byte.
